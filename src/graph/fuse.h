// Rewrites graphs so that what is memory-bound rides along with what is not. The unfused program stays the
// definition; the reference walks it to check the whole.
#pragma once

#include "graph/graph.h"

namespace tessera {

// What rides on products. Without any of it, epilogues are bias and activation, and a norm takes the sum
// before it.
struct Fusion {
  bool sums = true;    // matmul or feed_forward + add
  bool norms = true;   // norm + matmul, feed_forward or qkv_append
  bool heads = true;   // q, k, v matmuls + rope + kv_append -> qkv_append
  bool blocks = true;  // matmul with an activation or a gate + matmul -> feed_forward
};

// q, k, v matmuls on one input, rope and kv_append -> qkv_append over stacked weights (and biases), or matmul
// + rope_append where a lane cannot have what its stores need (q8_0 caches, odd sizes); gate and up matmuls +
// glu -> one gated matmul; matmul + activation -> its epilogue; such a product + the only one that reads it
// -> feed_forward; matmul or feed_forward + add -> its epilogue; other add + norm -> norm with residual; add
// + last_row -> the sum of that row; norm + matmul, feed_forward or qkv_append -> x normalised as it is
// loaded. A pattern whose dtypes or uses do not allow it is left as it is.
//
// Values keep their ids: new ones are appended, and those that no op uses any more stay unused (walkers give
// memory only to values that some op names). Graphs keep their indices.
Program fuse(const Program& program, const Fusion& what = {});

}  // namespace tessera
