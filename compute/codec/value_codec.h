// How parameter values travel: fp32, bf16, fp16 (round to nearest even), int8 with one scale a row.
//
// Sizes: rows * (dim * 4 | dim * 2 | dim * 2 | 4 + dim) bytes. Elementwise, vectorised; no state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "proto/job.pb.h"

namespace sheaf {

size_t EncodedSize(pb::WireSpec::Codec codec, size_t row_count, uint32_t dim);

// `out` has EncodedSize bytes, `values` row_count * dim floats.
void EncodeValues(pb::WireSpec::Codec codec, std::span<const float> values, uint32_t dim, std::span<std::byte> out);
// The reverse. Sizes must fit; they are checked by the caller against the message before it gets here.
void DecodeValues(pb::WireSpec::Codec codec, std::span<const std::byte> bytes, uint32_t dim, std::span<float> out);
// As EncodeValues with INT8, but first adds `residual` to the values, and leaves in it what rounding lost.
void EncodeInt8WithFeedback(std::span<const float> values, uint32_t dim, std::span<float* const> residual_rows,
                            std::span<std::byte> out);
// False if any value is NaN or infinite.
bool AllFinite(std::span<const float> values);

}  // namespace sheaf
