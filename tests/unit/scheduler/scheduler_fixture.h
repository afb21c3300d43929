// A scheduler that is talked to by hand.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <utility>

#include "common/base/build_info.h"
#include "scheduler/scheduler_core.h"

namespace sheaf {

inline constexpr PeerId kServer(101), kOtherServer(102), kWorker(201), kPerson(301);

// The simplest there is.
inline pb::JobSpec JobOfRows(uint32_t workers) {
  pb::JobSpec spec;
  spec.set_name("job");
  spec.mutable_data()->set_format(pb::DataSpec::LIBSVM);
  spec.mutable_data()->add_train("rows");
  spec.mutable_train()->set_workers(workers);
  return spec;
}

class SchedulerCoreTest : public ::testing::Test {
 protected:
  SchedulerCoreTest() : core_(Options(), TimePoint{}) {}

  static SchedulerOptions Options() {
    SchedulerOptions options;
    options.partition_count = 8;
    options.job.min_servers = 1;
    return options;
  }
  // The answer to `header` from `from`; other messages are left in others_.
  pb::Header Ask(PeerId from, pb::Header header) {
    header.set_request(++request_);
    Outbox out;
    core_.OnMessage(from, Message{header, {}, {}}, now_, out);
    pb::Header answer;
    for (auto& item : out.items()) {
      if (item.to == from && item.message.header.request() == request_) answer = item.message.header;
    }
    return answer;
  }
  pb::Header Register(PeerId peer, pb::Role role, uint32_t version = kWireVersion) {
    pb::Header header;
    header.mutable_register_node()->set_role(role);
    header.mutable_register_node()->set_wire_version(version);
    header.mutable_register_node()->set_host("host");
    if (role == pb::SERVER) header.mutable_register_node()->add_shard()->set_peer(peer.value + 1000);
    return Ask(peer, header);
  }
  pb::Header Submit(uint64_t token, uint32_t workers = 1) {
    pb::Header header;
    header.mutable_submit()->set_token(token);
    *header.mutable_submit()->mutable_spec() = JobOfRows(workers);
    return Ask(kPerson, header);
  }
  // One server that is here and one worker at least: the job is planned, and begins. So many ranges of so many rows.
  void Begin(const pb::JobSpec& spec, uint64_t ranges, uint32_t rows_a_range) {
    pb::Header submit;
    submit.mutable_submit()->set_token(1);
    *submit.mutable_submit()->mutable_spec() = spec;
    Ask(kPerson, submit);
    WorkerReport(kWorker, ++sequence_);
    pb::Header header;
    header.mutable_worker_report()->set_sequence(++sequence_);
    header.mutable_worker_report()->mutable_plan()->set_job(1);
    pb::PlanFile& file = *header.mutable_worker_report()->mutable_plan()->add_file();
    file.set_path("rows");
    file.set_rows(ranges * rows_a_range);
    file.set_rows_per_range(rows_a_range);
    for (uint64_t range = 0; range < ranges; ++range) file.add_offset(range);
    Ask(kWorker, header);
  }
  pb::Header WorkerReport(PeerId worker, uint64_t sequence) {
    pb::Header header;
    header.mutable_worker_report()->set_sequence(sequence);
    return Ask(worker, header);
  }
  pb::JobStatus JobNow() {
    const Job* job = core_.FindJob(JobId(1));
    return job == nullptr ? pb::JobStatus() : job->Describe(core_.members(), now_, true);
  }
  // A worker that it takes for dead still speaks: the scheduler is not cut off itself.
  void Pass(Duration time) {
    pb::Header anything;
    anything.mutable_worker_report();
    for (Duration done{}; done < time; done += Milliseconds(100)) {
      now_ += Milliseconds(100);
      Outbox out;
      core_.OnMessage(PeerId(9999), Message{anything, {}, {}}, now_, out);
      core_.OnTick(now_, out);
    }
  }
  void KeepAlive(PeerId server) {
    pb::Header header;
    header.mutable_server_report()->set_seen_generation(core_.config().generation());
    header.mutable_server_report()->set_config_generation(core_.config().generation());
    Ask(server, header);
  }

  TimePoint now_{};
  uint64_t request_ = 0, sequence_ = 0;  // of kWorker's reports, in Begin
  SchedulerCore core_;
};

}  // namespace sheaf
