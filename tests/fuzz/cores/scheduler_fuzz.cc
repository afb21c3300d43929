// Any header to the scheduler, from any peer: it answers, its configuration only grows, and no job is lost.
#include "common/base/check.h"
#include "scheduler/scheduler_core.h"
#include "tests/fuzz/cores/conversation.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sheaf;
  const auto conversation = ParseConversation(data, size);
  if (!conversation) return 0;
  TimePoint now{};
  SchedulerOptions options;
  options.partition_count = 8;
  SchedulerCore core(options, now);
  for (const pb::Event& event : conversation->event()) {
    now += PauseBefore(event);
    const uint64_t generation = core.config().generation();
    const int jobs = core.Describe(now).job_size();
    Outbox out;
    core.OnTick(now, out);
    if (event.has_header()) core.OnMessage(PeerId(event.from()), MessageOf(event), now, out);
    CheckSendable(out);
    SHEAF_CHECK(core.config().generation() >= generation, "the configuration went back");
    SHEAF_CHECK(core.config().partition_size() == 0 || core.config().partition_size() == 8);
    SHEAF_CHECK(core.Describe(now).job_size() >= jobs, "a job is gone");
    core.TakeEvents();
  }
  return 0;
}
