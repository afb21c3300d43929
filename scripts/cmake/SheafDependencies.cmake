# Debian 12's packages, each as an imported target. docs/dependencies.md gives the reason for each.

find_package(Threads REQUIRED)
find_package(Protobuf REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(ZMQ REQUIRED IMPORTED_TARGET libzmq)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(LZMA REQUIRED IMPORTED_TARGET liblzma)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl)
find_package(ZLIB REQUIRED)
find_package(Eigen3 REQUIRED NO_MODULE)
find_package(nlohmann_json REQUIRED)
# Shared gflags everywhere: librocksdb links the shared one, and two copies abort before main.
find_package(gflags REQUIRED COMPONENTS shared)
find_package(glog REQUIRED)
# RocksDB::rocksdb is the static library: link RocksDB::rocksdb-shared.
find_package(RocksDB REQUIRED)
if(SHEAF_TESTS)
  find_package(GTest REQUIRED)
endif()
