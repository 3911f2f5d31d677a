// How often the loops of an invocation go round. Some drivers end every loop of an invocation once all of
// them together have gone round a number of times (Limits::max_loop_iterations): what they compute then is
// wrong, and nothing says so.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/choose.h"

namespace tessera {

// At least what such a driver counts for any invocation of the dispatch, at full rows and keys.
std::uint64_t loop_iterations(const Dispatch& dispatch);

inline bool loops_end(const Dispatch& dispatch, const Limits& limits) {
  return loop_iterations(dispatch) <= limits.max_loop_iterations;
}

// unsupported unless loops_end().
Result<void> check_loops(const Dispatch& dispatch, const Limits& limits, const std::string& what);

}  // namespace tessera
