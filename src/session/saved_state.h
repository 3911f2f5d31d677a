// A session as bytes: a header, its tokens and its text's state, the rows of the KV cache, a checksum.
// Numbers lie as in memory: a foreign byte order fails the magic.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/checksum.h"
#include "base/result.h"
#include "graph/state.h"
#include "models/decoder.h"

namespace tessera {

// What a session must share with the one that was saved.
struct SavedShape {
  std::uint64_t model = 0;  // fingerprint of what its file holds
  std::uint32_t layers = 0, kv_heads = 0, head_dim = 0, kv_type = 0, vocab = 0, reserved = 0;
  bool operator==(const SavedShape&) const = default;
};
// io: the errors of reading the model's file.
Result<SavedShape> saved_shape(const DecoderProgram& decoder);

struct SavedState {
  std::uint32_t position = 0;  // tokens in the KV cache
  SamplerParams sampler;
  std::vector<TokenId> tokens;
  std::string text;  // of the Generator
};

// Hands parts to a sink as they come.
class StateWriter {
 public:
  using Sink = std::function<void(std::span<const std::byte>)>;
  explicit StateWriter(const Sink& sink) : sink_(sink) {}
  void header(const SavedShape& shape, const SavedState& state);
  void write(std::span<const std::byte> bytes);
  void finish();  // the checksum

 private:
  const Sink& sink_;
  std::uint64_t sum_ = kChecksumStart;
};

struct ReadState {
  SavedState state;
  std::span<const std::byte> cache;  // as large as the shape and position make it
};
// invalid_argument: bytes that are no saved session, are damaged, or are another model's or another KV
// type's. Whether the tokens fit the context is for the session to say.
Result<ReadState> read_state(std::span<const std::byte> bytes, const SavedShape& shape);

// Of a position in all caches of a layer's heads.
std::uint64_t cache_bytes(const SavedShape& shape, std::uint32_t positions);

}  // namespace tessera
