// What becomes of a server whose store is damaged: it asks the scheduler whether others have all that was in it. If so
// the store is put aside, and the server begins anew, with nothing; copies come to it as to any new server.
#pragma once

#include <string>

#include "common/base/result.h"
#include "common/net/member_info.h"
#include "common/net/scheduler_link.h"
#include "common/net/zmq_transport.h"
#include "common/runtime/clock.h"

namespace sheaf {

// Waits for the scheduler's word. Ok: nobody needs the store of `self` (which says what is wrong with it). Else why it
// is needed, or why there is no answer; kCancelled: `stop_fd` has become readable.
Status AskToForget(ZmqContext& context, const Clock& clock, const MemberInfo& self, SchedulerLinkOptions scheduler,
                   int stop_fd);

}  // namespace sheaf
