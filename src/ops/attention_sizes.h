// The sizes of a public attention, found from its tensors and attributes.
#pragma once

#include "base/attention.h"
#include "ops/arguments.h"

namespace tessera {

struct AttentionSizes {
  std::uint64_t batch = 0, heads = 0, q_len = 0, head_dim = 0;
  std::uint64_t q_dim = 0;  // of Q: head_dim, unless a score_matrix stands between
  std::uint64_t kv_heads = 0, v_dim = 0;
  std::uint64_t new_keys = 0;                // of K and V
  std::uint64_t past = 0;                    // of past_key and past_value
  std::uint64_t kv_len = 0;                  // keys in all; of a cache its capacity
  std::uint64_t block_size = 0, blocks = 0;  // of paged K and V; blocks there are
  bool rank3 = false;                        // (batch, len, heads*dim)
  bool heads_first = false;                  // (batch, heads, len, dim)
  bool no_keys = false;                      // kv_len would be 0: it is 1, of a key that no row sees
  bool appends = false;                      // past_key is there, or present_key is wanted
};

Result<AttentionSizes> attention_sizes(const Arguments& args);

// Everything of the descriptor but what optional tensors say.
Result<AttentionAttrs> attention_attrs(const Arguments& args, const AttentionSizes& sizes);

}  // namespace tessera
