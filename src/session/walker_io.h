// What the sessions write to a Walker between passes.
#pragma once

#include <span>

#include "graph/state.h"
#include "graph/walker.h"

namespace tessera {

template <typename T>
Result<void> write_items(Walker& walker, ValueId value, std::span<const T> items) {
  return walker.write(value, 0, std::as_bytes(items));
}

inline Result<void> write_state(Walker& walker, ValueId value, const StepState& state) {
  return walker.write(value, 0, std::as_bytes(std::span(&state, 1)));
}

}  // namespace tessera
