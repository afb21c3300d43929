// Answers of what may not be an etcd: an error or what was said. What is encoded is read back.
#include <string>

#include "common/base/check.h"
#include "common/storage/etcd_address.h"
#include "common/storage/etcd_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sheaf;  // NOLINT: a fuzz target's entry
  const std::string text(reinterpret_cast<const char*>(data), size);
  (void)DecodeEtcdTxn(text);
  (void)DecodeEtcdRange(text);
  if (const auto lease = DecodeEtcdGrant(text)) SHEAF_CHECK(lease->id != 0 && lease->ttl_s > 0, "no lease");
  (void)DecodeEtcdKeepAlive(text);
  SHEAF_CHECK(DecodeEtcdError(500, text).message.size() < 1000, "a stranger's answer fills the log");
  SHEAF_CHECK(*DecodeBase64(EncodeBase64(text)) == text, "base64 changes bytes");
  if (const auto bytes = DecodeBase64(text)) SHEAF_CHECK(bytes->size() <= text.size(), "base64 grows");
  const EtcdRange range = EtcdPrefix(text);
  SHEAF_CHECK(range.end == std::string(1, '\0') || range.end > range.key, "an empty range");
  if (const auto address = ParseEtcdAddress(text)) {
    SHEAF_CHECK(!address->endpoints.empty() && !address->prefix.empty(), "an address of nobody");
  }
  return 0;
}
