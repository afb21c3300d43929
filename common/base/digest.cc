#include "common/base/digest.h"

#define XXH_STATIC_LINKING_ONLY  // XXH3_state_t as a member
#include <xxhash.h>

namespace sheaf {
namespace {

Digest From(XXH128_hash_t hash) { return {hash.high64, hash.low64}; }

}  // namespace

struct Digester::State {
  XXH3_state_t hash;
};

Digester::Digester() : state_(std::make_unique<State>()) { XXH3_128bits_reset(&state_->hash); }
Digester::~Digester() = default;
void Digester::Add(std::span<const std::byte> bytes) {
  XXH3_128bits_update(&state_->hash, bytes.data(), bytes.size());
}
Digest Digester::Result() const { return From(XXH3_128bits_digest(&state_->hash)); }

Digest DigestOf(std::span<const std::byte> bytes) { return From(XXH3_128bits(bytes.data(), bytes.size())); }

}  // namespace sheaf
