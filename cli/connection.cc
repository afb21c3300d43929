#include "cli/connection.h"

#include "cli/commands.h"

namespace sheaf::cli {

Result<std::unique_ptr<Connection>> Connection::Open(const Args& args) {
  SHEAF_ASSIGN_OR_RETURN(auto signals, SignalFd::Create());
  std::unique_ptr<Connection> opened(new Connection(std::move(signals)));
  SHEAF_ASSIGN_OR_RETURN(opened->client_,
                         ConnectTo(opened->context_, SchedulerAddress(args), Timeout(args), opened->watch_));
  return opened;
}

}  // namespace sheaf::cli
