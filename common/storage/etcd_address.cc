#include "common/storage/etcd_address.h"

#include "common/base/strings.h"

namespace sheaf {
namespace {

constexpr std::string_view kScheme = "etcd://";
constexpr size_t kMostEndpoints = 16, kLongestPrefix = 200;

bool IsEndpoint(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return false;
  const auto port = ParseUint(text.substr(colon + 1));
  if (!port || *port < 1 || *port > 65535) return false;
  const std::string host = text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  const std::string_view letters = bracketed ? "0123456789abcdefABCDEF:.%[]"
                                             : "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-._";
  return host.find_first_not_of(letters) == std::string::npos;
}

}  // namespace

Result<EtcdAddress> ParseEtcdAddress(std::string_view text) {
  const auto wrong = [&](const std::string& what) {
    return Fail(ErrorCode::kInvalidArgument, what, " in ", text, ": it should be etcd://HOST:PORT,.../PREFIX");
  };
  if (!text.starts_with(kScheme)) return wrong("no etcd:// at the begin");
  std::string_view rest = text.substr(kScheme.size());
  EtcdAddress address;
  const size_t slash = rest.find('/');
  if (slash != std::string_view::npos) {
    std::string_view prefix = rest.substr(slash + 1);
    while (prefix.ends_with('/')) prefix.remove_suffix(1);
    address.prefix = prefix;
    rest = rest.substr(0, slash);
  }
  if (address.prefix.empty()) address.prefix = "sheaf";
  if (address.prefix.size() > kLongestPrefix) return wrong("a prefix of more than 200 letters");
  for (const auto& endpoint : Split(rest, ',')) {
    address.endpoints.emplace_back(endpoint);
    if (!IsEndpoint(address.endpoints.back())) return wrong("no HOST:PORT: '" + address.endpoints.back() + "'");
  }
  if (address.endpoints.empty()) return wrong("no HOST:PORT");
  if (address.endpoints.size() > kMostEndpoints) return wrong("more than 16 addresses");
  return address;
}

}  // namespace sheaf
