// What the client of a chaos run does: push until told to stop, and look at what has become of it.
//
// Each runs on the main thread and borrows its client. Errors: those of the client; kDataLoss if a row is not what was
// acknowledged; kTimeout if the cluster did not come to rest.
#pragma once

#include <string>
#include <vector>

#include "client/blocking_client.h"
#include "common/runtime/signals.h"
#include "tests/chaos/client/ledger.h"

namespace sheaf::chaos {

// The weight table of a job, as soon as the servers have it.
Result<TableId> WaitForTable(BlockingClient& client, JobId job, Duration at_most);

// Pushes and now and then reads back, until SIGTERM, or `most` pushes if that is not 0; a push under way is finished
// first, however often it is sent. What took longer than 100 ms goes to the file `stalls`: a line "BEGIN END" in
// seconds of CLOCK_BOOTTIME.
Status PushUntilStopped(BlockingClient& client, TableId table, Ledger& ledger, uint64_t most,
                        const std::string& stalls, SignalFd& signals);

// All rows of these clients against what was acknowledged: a line of JSON on stdout.
Status Check(BlockingClient& client, TableId table, std::vector<Ledger> ledgers);

// Rows and a digest of each partition, of all tables there are: a line of JSON on stdout.
Status PrintDigests(BlockingClient& client);

// Until there are so many servers, none of them called `without`, and every partition has a replica in sync.
Status Settle(BlockingClient& client, int servers, const std::string& without, Duration at_most);

}  // namespace sheaf::chaos
