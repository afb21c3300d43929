// Messages to frames and back: [header][keys][values], empty frames at the end left out.
//
// A header of more than 128 KiB (control messages of large clusters) travels in the values frame, and a LargeHeader
// says so in its place; such a message has no payload of its own. Senders and receivers see the header where it
// belongs.
// Ownership: frames of a decoded message are shared with it, never copied. Thread-safety: pure functions.
// Errors: encoding answers kInvalidArgument over a limit; decoding answers kDataLoss for bytes that are no message and
// kVersionMismatch for a peer of another wire version. Nothing is ever allocated by a size that only the bytes claim.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/base/build_info.h"
#include "common/base/result.h"
#include "common/net/body_pool.h"
#include "common/net/message.h"

namespace sheaf {

inline constexpr size_t kMaxHeaderBytes = 128 << 10;
// Keys and values together: 4 MiB of values in rows of 128 numbers or more, and their keys.
inline constexpr size_t kMaxPayloadBytes = (4 << 20) + (64 << 10);
inline constexpr size_t kMaxFrames = 3;

// 1, 2 or 3.
size_t FrameCount(const Message& message);

// Sets the wire version (unless one is set already), moves a large header out, checks every limit, and answers the
// header frame's size.
Result<size_t> SealHeader(Message& message);
// Writes a sealed header; `frame` has exactly the size that SealHeader answered.
void WriteHeader(const pb::Header& header, std::span<std::byte> frame);

Result<std::vector<Buffer>> EncodeMessage(Message message);
Result<Message> DecodeMessage(std::span<const Buffer> frames);
// The header's body is one of `bodies` where there is one of its kind: Recycle it when the message is done with.
Result<Message> DecodeMessage(std::span<const Buffer> frames, BodyPool& bodies);
// The same, for a header that is not in a Buffer: it need not outlive the call.
Result<Message> DecodeMessage(std::span<const std::byte> header, Buffer keys, Buffer values, BodyPool& bodies);

// The answer to a message refused with kVersionMismatch: a Refusal in the *sender's* wire version, so that it can read
// why. Nothing if the header names no version or was a Refusal itself (no answer to an answer).
std::optional<Message> MakeVersionRefusal(std::span<const std::byte> header);

}  // namespace sheaf
