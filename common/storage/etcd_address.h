// Where an etcd is, and under which prefix our keys lie in it: etcd://HOST:PORT[,HOST:PORT...][/PREFIX]
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace sheaf {

struct EtcdAddress {
  std::vector<std::string> endpoints;  // HOST:PORT of its members, any of which will do; IPv6 in brackets
  std::string prefix;                  // without a slash at its ends; never empty
};

// kInvalidArgument says what is wrong. Without a prefix it is "sheaf".
Result<EtcdAddress> ParseEtcdAddress(std::string_view text);

}  // namespace sheaf
