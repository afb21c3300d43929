// The limit over a TCP socket: blocking reads and writes, buffers that are kept.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "bench/kv/raw_wire.h"
#include "common/runtime/memory.h"

namespace sheaf::bench {
namespace {

[[noreturn]] void Die(const char* what) {
  std::perror(what);
  std::_Exit(3);
}

void SetNoDelay(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void WriteAll(int fd, iovec* pieces, size_t count) {
  while (count > 0) {
    const ssize_t written = writev(fd, pieces, static_cast<int>(count));
    if (written < 0) Die("bench: writing to a socket");
    auto left = static_cast<size_t>(written);
    while (count > 0 && left >= pieces->iov_len) {
      left -= pieces->iov_len;
      ++pieces;
      --count;
    }
    if (count > 0) {
      pieces->iov_base = static_cast<char*>(pieces->iov_base) + left;
      pieces->iov_len -= left;
    }
  }
}

// False: the other side has gone.
bool ReadAll(int fd, void* to, size_t bytes) {
  auto* at = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t got = read(fd, at, bytes);
    if (got < 0) Die("bench: reading from a socket");
    if (got == 0) return false;
    at += got;
    bytes -= static_cast<size_t>(got);
  }
  return true;
}

class TcpClient final : public RawClient {
 public:
  explicit TcpClient(uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) Die("bench: connecting");
    SetNoDelay(fd_);
  }
  ~TcpClient() override { close(fd_); }
  void Send(const RawRequest& request) override {
    iovec pieces[3] = {{const_cast<RawHeader*>(&request.header), sizeof(request.header)},
                       {const_cast<HashedKey*>(request.keys.data()), request.keys.size_bytes()},
                       {const_cast<float*>(request.values.data()), request.values.size_bytes()}};
    WriteAll(fd_, pieces, 3);
  }
  size_t Receive() override {
    RawHeader header;
    if (!ReadAll(fd_, &header, sizeof(header))) Die("bench: the limit's server has gone");
    reply_.resize(header.reply_bytes);
    if (!ReadAll(fd_, reply_.data(), reply_.size())) Die("bench: the limit's server has gone");
    return reply_.size();
  }

 private:
  const int fd_;
  std::vector<std::byte> reply_;
};

}  // namespace

void ServeTcp(RawService& service, const Announce& announce) {
  KeepFreedMemory();
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener, 4) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    Die("bench: listening");
  }
  announce(std::to_string(ntohs(address.sin_port)));
  std::vector<HashedKey> keys;
  std::vector<float> values;
  std::vector<std::byte> reply;
  for (;;) {
    const int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) Die("bench: accepting");
    SetNoDelay(fd);
    RawHeader header;
    while (ReadAll(fd, &header, sizeof(header))) {
      keys.resize(header.keys);
      values.resize(header.value_bytes / sizeof(float));
      if (!ReadAll(fd, keys.data(), keys.size() * sizeof(HashedKey)) || !ReadAll(fd, values.data(), header.value_bytes))
        break;
      reply.resize(header.reply_bytes);
      service.Handle(header, keys, values.data(), reply.data());
      iovec pieces[2] = {{&header, sizeof(header)}, {reply.data(), reply.size()}};
      WriteAll(fd, pieces, 2);
    }
    close(fd);
  }
}

std::unique_ptr<RawClient> ConnectTcp(const std::string& address) {
  return std::make_unique<TcpClient>(static_cast<uint16_t>(std::stoi(address)));
}

}  // namespace sheaf::bench
