// Room on a shard's disk that is given up when the disk is full, so that the shard can do then what makes room: commit
// what it has taken, write a round of snapshots, and cut its log.
//
// It is a file of so many bytes beside the log. Thread-safety: none; the shard's thread owns it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace sheaf {

class DiskReserve {
 public:
  // `path`: of the file. Nothing is done yet.
  DiskReserve(std::string path, uint64_t bytes) : path_(std::move(path)), bytes_(bytes) {}

  // Takes the room, if the disk has `times` as much free, or more. Whether it is taken.
  bool Take(uint64_t times);
  void GiveUp();
  bool taken() const { return taken_; }

 private:
  const std::string path_;
  const uint64_t bytes_;
  bool taken_ = false;
};

}  // namespace sheaf
