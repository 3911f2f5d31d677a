#include <bit>

#include "base/dtype.h"
#include "interface/embedding.h"
#include "kernels/choose.h"
#include "kernels/grid.h"
#include "kernels/layout.h"
#include "kernels/loops.h"

namespace tessera {

Result<Dispatch> choose_embedding(const EmbeddingShape& shape, const Target& target) {
  const std::string what =
      "embedding of " + std::to_string(shape.rows) + " rows of " + std::to_string(shape.dim);
  const std::uint64_t row_bytes = device_row_bytes(shape.type, shape.dim);
  if (row_bytes == 0)
    return Error{Code::invalid_argument, what + ": a table of " + std::string(info(shape.type).name) +
                                             " cannot have that many columns"};
  const std::uint64_t most = 0xffffffffull;
  if (std::uint64_t{shape.rows} * shape.dim > most || shape.count * (row_bytes / 4) > most)
    return Error{Code::unsupported, what + ": more than 2^32 elements"};
  TSR_TRY(const auto grid, fold_grid(shape.rows, target.limits, what));
  Dispatch d;
  d.kernel = KernelId::embedding;
  d.spec = {group_size(ceil_div(shape.dim, 8), 128, target.limits), static_cast<std::uint32_t>(shape.type)};
  d.push = {shape.rows,
            shape.dim,
            static_cast<std::uint32_t>(row_bytes / 16),
            shape.first,
            shape.count,
            grid[0],
            grid[1],
            (shape.batch ? shader::kEmbeddingFlagBatch : 0) |
                (shape.positions ? shader::kEmbeddingFlagPositions : 0),
            std::bit_cast<std::uint32_t>(shape.scale)};
  d.grid = grid;
  d.bytes = static_cast<double>(shape.rows) * (static_cast<double>(row_bytes) + 4.0 * shape.dim + 4);
  TSR_CHECK(check_loops(d, target.limits, what));
  return d;
}

}  // namespace tessera
