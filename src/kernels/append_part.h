// Rotation and append as the end of another dispatch.
#pragma once

#include "kernels/choose.h"

namespace tessera {

struct AppendPart {
  std::uint32_t positions = 0, capacity = 0, slots = 0, blocks = 0, table_stride = 0;  // of shader::RopePush
  double bytes = 0;  // of the table, q and what is stored
};

// Refuses the caches that choose_rope_append refuses.
Result<AppendPart> append_part(const RopeAppendShape& shape, const Target& target);

}  // namespace tessera
