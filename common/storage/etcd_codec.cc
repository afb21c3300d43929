#include "common/storage/etcd_codec.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/base/strings.h"

namespace sheaf {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr uint8_t kNoDigit = 0xff;
constexpr size_t kErrorText = 300;  // of a stranger's answer, for people

constexpr std::array<uint8_t, 256> DigitValues() {
  std::array<uint8_t, 256> values{};
  for (uint8_t& value : values) value = kNoDigit;
  for (size_t i = 0; i < kDigits.size(); ++i) values[static_cast<uint8_t>(kDigits[i])] = static_cast<uint8_t>(i);
  return values;
}

Failure Misfit(const char* what) {
  return Fail(ErrorCode::kDataLoss, "etcd's answer cannot be read: ", what, " does not fit");
}

Result<Json> Parse(std::string_view text) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_object()) return Misfit("what should be a JSON object");
  return json;
}

// What is zero is left out.
Result<int64_t> NumberAt(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) return int64_t{0};
  if (found->is_number_integer()) {
    if (found->is_number_unsigned() && found->get<uint64_t>() > INT64_MAX) return Misfit(name);
    return found->get<int64_t>();
  }
  if (!found->is_string()) return Misfit(name);
  const std::string& digits = found->get_ref<const std::string&>();
  int64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size()) return Misfit(name);
  return number;
}

Result<bool> BoolAt(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) return false;
  if (!found->is_boolean()) return Misfit(name);
  return found->get<bool>();
}

Result<std::string> BytesAt(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) return std::string();
  if (!found->is_string()) return Misfit(name);
  return DecodeBase64(found->get_ref<const std::string&>());
}

// The object there, nullptr if it is left out.
Result<const Json*> ObjectAt(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) return static_cast<const Json*>(nullptr);
  if (!found->is_object()) return Misfit(name);
  return &*found;
}

Result<const Json*> ListAt(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) return static_cast<const Json*>(nullptr);
  if (!found->is_array()) return Misfit(name);
  return &*found;
}

Result<int64_t> RevisionOf(const Json& answer) {
  SHEAF_ASSIGN_OR_RETURN(const Json* const header, ObjectAt(answer, "header"));
  if (header == nullptr) return int64_t{0};
  return NumberAt(*header, "revision");
}

Result<EtcdRangeAnswer> ReadRange(const Json& json) {
  EtcdRangeAnswer answer;
  SHEAF_ASSIGN_OR_RETURN(answer.revision, RevisionOf(json));
  SHEAF_ASSIGN_OR_RETURN(answer.more, BoolAt(json, "more"));
  SHEAF_ASSIGN_OR_RETURN(const Json* const entries, ListAt(json, "kvs"));
  if (entries == nullptr) return answer;
  for (const Json& item : *entries) {
    if (!item.is_object()) return Misfit("an entry");
    EtcdEntry& entry = answer.entries.emplace_back();
    SHEAF_ASSIGN_OR_RETURN(entry.key, BytesAt(item, "key"));
    SHEAF_ASSIGN_OR_RETURN(entry.value, BytesAt(item, "value"));
    SHEAF_ASSIGN_OR_RETURN(entry.create_revision, NumberAt(item, "create_revision"));
    SHEAF_ASSIGN_OR_RETURN(entry.lease, NumberAt(item, "lease"));
  }
  return answer;
}

Json RangeJson(const EtcdRange& range) {
  Json json = {{"key", EncodeBase64(range.key)}};
  if (!range.end.empty()) json["range_end"] = EncodeBase64(range.end);
  if (range.limit != 0) json["limit"] = std::to_string(range.limit);
  if (range.revision != 0) json["revision"] = std::to_string(range.revision);
  if (range.keys_only) json["keys_only"] = true;
  return json;
}

Json CompareJson(const EtcdCompare& compare) {
  Json json = {{"key", EncodeBase64(compare.key)}, {"result", "EQUAL"}};
  if (compare.what == EtcdCompare::What::kValue) {
    json["target"] = "VALUE";
    json["value"] = EncodeBase64(compare.value);
  } else {
    json["target"] = "CREATE";
    json["create_revision"] = std::to_string(compare.create_revision);
  }
  return json;
}

Json OpsJson(const std::vector<EtcdOp>& ops) {
  Json list = Json::array();
  for (const EtcdOp& op : ops) {
    switch (op.what) {
      case EtcdOp::What::kPut: {
        Json put = {{"key", EncodeBase64(op.range.key)}, {"value", EncodeBase64(op.value)}};
        if (op.lease != 0) put["lease"] = std::to_string(op.lease);
        list.push_back({{"request_put", std::move(put)}});
        break;
      }
      case EtcdOp::What::kDelete: list.push_back({{"request_delete_range", RangeJson(op.range)}}); break;
      case EtcdOp::What::kRange: list.push_back({{"request_range", RangeJson(op.range)}}); break;
    }
  }
  return list;
}

Result<EtcdLease> ReadLease(const Json& json) {
  EtcdLease lease;
  SHEAF_ASSIGN_OR_RETURN(lease.id, NumberAt(json, "ID"));
  SHEAF_ASSIGN_OR_RETURN(lease.ttl_s, NumberAt(json, "TTL"));
  return lease;
}

ErrorCode CodeOf(int64_t http_status, int64_t grpc_code) {
  switch (grpc_code) {
    case 3: return ErrorCode::kInvalidArgument;
    case 5: return ErrorCode::kNotFound;
    case 7:
    case 16: return ErrorCode::kPermissionDenied;
    case 8: return ErrorCode::kResourceExhausted;
    default: break;
  }
  if (http_status == 401 || http_status == 403) return ErrorCode::kPermissionDenied;
  // Also what is no etcd's answer: a proxy before it may have handed the request on.
  return http_status == 404 ? ErrorCode::kInvalidArgument : ErrorCode::kTimeout;
}

}  // namespace

std::string EncodeBase64(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t at = 0; at < bytes.size(); at += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - at);
    uint32_t group = 0;
    for (size_t i = 0; i < 3; ++i) group = group << 8 | (i < count ? static_cast<uint8_t>(bytes[at + i]) : 0);
    for (size_t i = 0; i < 4; ++i) text += i <= count ? kDigits[group >> (18 - 6 * i) & 63] : '=';
  }
  return text;
}

Result<std::string> DecodeBase64(std::string_view text) {
  static constexpr std::array<uint8_t, 256> kValues = DigitValues();
  if (text.size() % 4 != 0) return Misfit("base64");
  size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  for (size_t at = 0; at < text.size(); at += 4) {
    const size_t digits = at + 4 == text.size() ? 4 - padding : 4;
    uint32_t group = 0;
    for (size_t i = 0; i < 4; ++i) {
      const uint8_t value = i < digits ? kValues[static_cast<uint8_t>(text[at + i])] : 0;
      if (value == kNoDigit) return Misfit("base64");
      group = group << 6 | value;
    }
    for (size_t i = 0; i + 1 < digits; ++i) bytes += static_cast<char>(group >> (16 - 8 * i) & 0xff);
  }
  return bytes;
}

EtcdRange EtcdPrefix(const std::string& prefix) {
  std::string end = prefix;
  while (!end.empty() && static_cast<uint8_t>(end.back()) == 0xff) end.pop_back();
  if (end.empty()) return {.key = prefix.empty() ? std::string(1, '\0') : prefix, .end = std::string(1, '\0')};
  end.back() = static_cast<char>(static_cast<uint8_t>(end.back()) + 1);
  return {.key = prefix, .end = std::move(end)};
}

std::string EncodeEtcdTxn(const EtcdTxn& txn) {
  Json json = Json::object();
  for (const EtcdCompare& compare : txn.compares) json["compare"].push_back(CompareJson(compare));
  if (!txn.then.empty()) json["success"] = OpsJson(txn.then);
  if (!txn.otherwise.empty()) json["failure"] = OpsJson(txn.otherwise);
  return json.dump();
}

Result<EtcdTxnAnswer> DecodeEtcdTxn(std::string_view text) {
  SHEAF_ASSIGN_OR_RETURN(const Json json, Parse(text));
  EtcdTxnAnswer answer;
  SHEAF_ASSIGN_OR_RETURN(answer.succeeded, BoolAt(json, "succeeded"));
  SHEAF_ASSIGN_OR_RETURN(answer.revision, RevisionOf(json));
  SHEAF_ASSIGN_OR_RETURN(const Json* const responses, ListAt(json, "responses"));
  if (responses == nullptr) return answer;
  for (const Json& response : *responses) {
    if (!response.is_object()) return Misfit("a response");
    SHEAF_ASSIGN_OR_RETURN(const Json* const range, ObjectAt(response, "response_range"));
    EtcdRangeAnswer read;
    if (range != nullptr) {
      SHEAF_ASSIGN_OR_RETURN(read, ReadRange(*range));
    }
    answer.ranges.push_back(std::move(read));
  }
  return answer;
}

std::string EncodeEtcdRange(const EtcdRange& range) { return RangeJson(range).dump(); }

Result<EtcdRangeAnswer> DecodeEtcdRange(std::string_view text) {
  SHEAF_ASSIGN_OR_RETURN(const Json json, Parse(text));
  return ReadRange(json);
}

std::string EncodeEtcdGrant(int64_t ttl_s) { return Json{{"TTL", std::to_string(ttl_s)}}.dump(); }

Result<EtcdLease> DecodeEtcdGrant(std::string_view text) {
  SHEAF_ASSIGN_OR_RETURN(const Json json, Parse(text));
  SHEAF_ASSIGN_OR_RETURN(const EtcdLease lease, ReadLease(json));
  if (lease.id == 0 || lease.ttl_s <= 0) return Misfit("a lease");
  return lease;
}

std::string EncodeEtcdLease(int64_t id) { return Json{{"ID", std::to_string(id)}}.dump(); }

Result<EtcdLease> DecodeEtcdKeepAlive(std::string_view text) {
  SHEAF_ASSIGN_OR_RETURN(const Json json, Parse(text));
  SHEAF_ASSIGN_OR_RETURN(const Json* const result, ObjectAt(json, "result"));  // a stream of one answer
  if (result == nullptr) return Misfit("result");
  return ReadLease(*result);
}

Error DecodeEtcdError(int64_t http_status, std::string_view text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  int64_t grpc_code = 0;
  std::string says(text.substr(0, kErrorText));
  if (json.is_object()) {
    const auto code = NumberAt(json, "code");
    const auto message = json.find("message");
    grpc_code = code ? *code : 0;
    if (message != json.end() && message->is_string()) says = message->get<std::string>().substr(0, kErrorText);
  }
  for (char& letter : says) {
    if (static_cast<uint8_t>(letter) < ' ') letter = ' ';
  }
  return {CodeOf(http_status, grpc_code), StrCat("etcd answers ", http_status, ": ", says)};
}

}  // namespace sheaf
