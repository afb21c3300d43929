#include "common/storage/etcd_client.h"

#include <curl/curl.h>

#include <utility>

#include "common/base/check.h"

namespace sheaf {
namespace {

constexpr size_t kMostAnswer = size_t{256} << 20;  // bytes; our lists come in pages far smaller
constexpr long kOk = 200;                          // NOLINT(google-runtime-int): libcurl's type

// Once a process; never undone, as threads of others may still use it at the end.
void SetUpCurl() {
  static const CURLcode set_up = curl_global_init(CURL_GLOBAL_DEFAULT);
  SHEAF_CHECK(set_up == CURLE_OK, curl_easy_strerror(set_up));
}

size_t Append(char* bytes, size_t one, size_t count, void* answer) {
  auto& text = *static_cast<std::string*>(answer);
  if (text.size() + count > kMostAnswer) return 0;  // ends the request with an error
  text.append(bytes, one * count);
  return one * count;
}

// Nobody has seen anything of the request.
bool IsUnsent(CURLcode code) {
  return code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_RESOLVE_PROXY ||
         code == CURLE_URL_MALFORMAT;
}

}  // namespace

struct EtcdClient::Impl {
  std::vector<std::string> endpoints;
  Options options;
  size_t next = 0;  // endpoint
  CURL* curl = nullptr;
  curl_slist* headers = nullptr;
};

EtcdClient::EtcdClient(std::vector<std::string> endpoints, Options options) : impl_(std::make_unique<Impl>()) {
  SHEAF_CHECK(!endpoints.empty(), "an etcd without an address");
  SetUpCurl();
  impl_->endpoints = std::move(endpoints);
  impl_->options = options;
  impl_->curl = curl_easy_init();
  SHEAF_CHECK(impl_->curl != nullptr, "curl_easy_init");
  impl_->headers = curl_slist_append(impl_->headers, "Content-Type: application/json");
  impl_->headers = curl_slist_append(impl_->headers, "Expect:");  // no question first whether a large body is welcome
  CURL* const curl = impl_->curl;
  const auto ms = [](Duration duration) { return static_cast<long>(duration / Milliseconds(1)); };  // NOLINT
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);  // resolving names must not raise SIGALRM
  curl_easy_setopt(curl, CURLOPT_PROXY, "");     // whatever the environment says: etcd is next door
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, impl_->headers);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, ms(options.attempt));
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, ms(options.connect));
  curl_easy_setopt(curl, CURLOPT_TCP_NODELAY, 1L);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &Append);
}

EtcdClient::~EtcdClient() {
  curl_easy_cleanup(impl_->curl);
  curl_slist_free_all(impl_->headers);
}

size_t EtcdClient::endpoint_count() const { return impl_->endpoints.size(); }

Result<std::string> EtcdClient::Post(const std::string& path, const std::string& body) {
  CURL* const curl = impl_->curl;
  const std::string& endpoint = impl_->endpoints[impl_->next];
  const std::string url = "http://" + endpoint + path;
  std::string answer;
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.data());
  curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
  const CURLcode done = curl_easy_perform(curl);
  if (done != CURLE_OK) {
    impl_->next = (impl_->next + 1) % impl_->endpoints.size();
    return Fail(IsUnsent(done) ? ErrorCode::kUnavailable : ErrorCode::kTimeout, "etcd at ", endpoint, ": ",
                curl_easy_strerror(done));
  }
  long status = 0;  // NOLINT(google-runtime-int): libcurl's type
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  if (status == kOk) return answer;
  Error error = DecodeEtcdError(status, answer);
  // A member that is cut off from the others, or has just lost their leader, answers like this.
  if (error.code == ErrorCode::kTimeout) impl_->next = (impl_->next + 1) % impl_->endpoints.size();
  return Wrap(error, "etcd at ", endpoint);
}

Result<std::string> EtcdClient::PostToAny(const std::string& path, const std::string& body) {
  for (size_t tried = 1;; ++tried) {
    auto answer = Post(path, body);
    if (answer || tried == impl_->endpoints.size()) return answer;
    const ErrorCode code = answer.error().code;
    if (code != ErrorCode::kUnavailable && code != ErrorCode::kTimeout) return answer;
  }
}

Result<EtcdTxnAnswer> EtcdClient::Txn(const EtcdTxn& txn) {
  SHEAF_ASSIGN_OR_RETURN(const std::string answer, Post("/v3/kv/txn", EncodeEtcdTxn(txn)));
  return DecodeEtcdTxn(answer);
}

Result<EtcdRangeAnswer> EtcdClient::Range(const EtcdRange& range) {
  SHEAF_ASSIGN_OR_RETURN(const std::string answer, PostToAny("/v3/kv/range", EncodeEtcdRange(range)));
  return DecodeEtcdRange(answer);
}

Result<EtcdLease> EtcdClient::Grant(int64_t ttl_s) {
  SHEAF_ASSIGN_OR_RETURN(const std::string answer, PostToAny("/v3/lease/grant", EncodeEtcdGrant(ttl_s)));
  return DecodeEtcdGrant(answer);
}

Result<EtcdLease> EtcdClient::KeepAlive(int64_t lease) {
  SHEAF_ASSIGN_OR_RETURN(const std::string answer, PostToAny("/v3/lease/keepalive", EncodeEtcdLease(lease)));
  return DecodeEtcdKeepAlive(answer);
}

Status EtcdClient::Revoke(int64_t lease) {
  const auto answer = PostToAny("/v3/lease/revoke", EncodeEtcdLease(lease));
  if (!answer && answer.error().code != ErrorCode::kNotFound) return Failure{answer.error()};
  return {};
}

}  // namespace sheaf
