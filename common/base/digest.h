// XXH3-128 of bytes that come piece by piece.
//
// Thread-safety: none. It finds damage, not forgery.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace sheaf {

struct Digest {
  uint64_t high = 0;
  uint64_t low = 0;
  friend bool operator==(const Digest&, const Digest&) = default;
};

class Digester {
 public:
  Digester();
  ~Digester();
  Digester(const Digester&) = delete;
  Digester& operator=(const Digester&) = delete;

  void Add(std::span<const std::byte> bytes);
  Digest Result() const;  // of all so far

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

Digest DigestOf(std::span<const std::byte> bytes);

}  // namespace sheaf
