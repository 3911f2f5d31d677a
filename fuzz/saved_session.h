// A saved session of a model that is not there.
#pragma once

#include <vector>

#include "session/saved_state.h"

namespace tessera {

inline constexpr SavedShape kSavedShape{.model = 7,
                                        .layers = 1,
                                        .kv_heads = 2,
                                        .head_dim = 4,
                                        .kv_type = static_cast<std::uint32_t>(DType::f16),
                                        .vocab = 300};

inline std::vector<std::byte> saved_session(const SavedState& state, std::span<const std::byte> cache) {
  std::vector<std::byte> out;
  const StateWriter::Sink sink = [&out](std::span<const std::byte> part) {
    out.insert(out.end(), part.begin(), part.end());
  };
  StateWriter writer(sink);
  writer.header(kSavedShape, state);
  writer.write(cache);
  writer.finish();
  return out;
}

}  // namespace tessera
