// Encoded values of any bytes: decoded, they are what the codec says, and encoded again they come to the same bytes.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "common/base/check.h"
#include "compute/codec/value_codec.h"

namespace sheaf {
namespace {

void RoundTrip(pb::WireSpec::Codec codec, uint32_t dim, std::span<const std::byte> bytes,
               std::span<const float> values) {
  std::vector<std::byte> again(bytes.size());
  EncodeValues(codec, values, dim, again);
  if (codec == pb::WireSpec::INT8) {  // a row can be written in more than one way: its numbers are what counts
    std::vector<float> decoded(values.size());
    DecodeValues(codec, again, dim, decoded);
    for (size_t row = 0; row < values.size(); row += dim) {
      float greatest = 0;
      bool finite = true;
      for (size_t i = row; i < row + dim; ++i) {
        finite &= std::isfinite(values[i]);
        greatest = std::max(greatest, std::abs(values[i]));
      }
      for (size_t i = row; i < row + dim; ++i) {
        SHEAF_CHECK(finite ? std::abs(decoded[i] - values[i]) <= greatest / 127 + 1e-36F : std::isnan(decoded[i]),
                    values[i], " came back as ", decoded[i]);
      }
    }
    return;
  }
  const size_t width = bytes.size() / values.size();
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) continue;  // stays one, of other bits
    SHEAF_CHECK(std::memcmp(&again[i * width], &bytes[i * width], width) == 0, "value ", i, " (", values[i],
                ") changed");
  }
}

}  // namespace
}  // namespace sheaf

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sheaf;
  if (size < 2) return 0;
  const auto codec = static_cast<pb::WireSpec::Codec>(data[0] % 4);
  const uint32_t dim = 1 + data[1];
  const size_t rows = (size - 2) / EncodedSize(codec, 1, dim);
  // Not aligned: the wire is not.
  const auto bytes = std::as_bytes(std::span(data + 2, size - 2)).first(EncodedSize(codec, rows, dim));
  std::vector<float> values(rows * dim);
  DecodeValues(codec, bytes, dim, values);
  const bool finite = std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
  SHEAF_CHECK(AllFinite(values) == finite, "AllFinite errs");
  if (!values.empty()) RoundTrip(codec, dim, bytes, values);
  if (codec == pb::WireSpec::INT8 && finite) {
    std::vector<float> residuals(values.size());
    std::vector<float*> rows_of_residuals;
    for (size_t row = 0; row < rows; ++row) rows_of_residuals.push_back(&residuals[row * dim]);
    std::vector<std::byte> encoded(bytes.size());
    EncodeInt8WithFeedback(values, dim, rows_of_residuals, encoded);
    SHEAF_CHECK(AllFinite(residuals), "what rounding lost is not finite");
  }
  return 0;
}
