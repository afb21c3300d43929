// RocksDB without the file LOG in which it tells what it does. For common/storage/rocks_*.cc only.
//
// Nobody needs it: what goes wrong comes back as a status. And once it could not be written, because the disk was full,
// the next line ends the process: Debian's RocksDB is built with its assertions.
#pragma once

#include <rocksdb/env.h>

#include <cstdarg>
#include <memory>

namespace sheaf {

class RocksNoLog final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char* /*format*/, va_list /*arguments*/) override {}
};

inline std::shared_ptr<rocksdb::Logger> MakeRocksNoLog() { return std::make_shared<RocksNoLog>(); }

}  // namespace sheaf
