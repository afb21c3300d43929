// BodyPool: bodies of data path messages (pull, push, and their replies), used again with the memory of their lists.
//
// Protobuf takes memory for a header's body, for each of its blocks and each of its lists, and frees all of it with the
// header: a dozen times a request. A body that was cleared keeps it for the next message of its kind.
// Thread-safety: none; it lives on one event loop. Ownership: owns a body from Recycle on; Reuse gives it to a header.
// Memory: a few bodies of each kind, of a few blocks each; what a peer made larger than that is freed.
#pragma once

#include <memory>
#include <vector>

#include "proto/envelope.pb.h"

namespace sheaf {

class BodyPool {
 public:
  // Sets an empty body of that kind, if there is one to use again; else the header stays without.
  void Reuse(pb::Header::BodyCase kind, pb::Header& header);
  // Takes the body off a header that is done with.
  void Recycle(pb::Header& header);

 private:
  std::vector<std::unique_ptr<pb::PullRequest>> pulls_;
  std::vector<std::unique_ptr<pb::PullReply>> pull_replies_;
  std::vector<std::unique_ptr<pb::PushRequest>> pushes_;
  std::vector<std::unique_ptr<pb::PushReply>> push_replies_;
};

}  // namespace sheaf
