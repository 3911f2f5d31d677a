// Rewrites graphs so that what is memory-bound rides along with what is not. The unfused program stays the
// definition; the reference walks it to check the whole.
#pragma once

#include "graph/graph.h"

namespace tessera {

// q, k, v matmuls on one input -> one matmul over stacked weights (and biases) + rope_append;
// gate and up matmuls + glu -> one gated matmul; matmul + activation -> its epilogue;
// such a product + the only one that reads it -> feed_forward; add + norm -> norm with residual; add +
// last_row -> the sum of that row. A pattern whose dtypes or uses do not allow it is left as it is.
//
// Values keep their ids: new ones are appended, and those that no op uses any more stay unused (walkers give
// memory only to values that some op names). Graphs keep their indices.
Program fuse(const Program& program);

}  // namespace tessera
