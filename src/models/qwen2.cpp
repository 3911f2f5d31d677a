// Qwen2: as Llama, but RoPE turns half-rotated pairs, and q, k and v have biases.
#include <array>

#include "models/family.h"

namespace tessera {
namespace {

constexpr std::array<std::string_view, 1> kArchitectures{"qwen2"};

Result<BlockWeights> block(ModelTensors& tensors, const DecoderConfig& config, std::uint32_t layer) {
  TSR_TRY(BlockWeights w, read_block(tensors, config, layer));
  const std::string prefix = "blk." + std::to_string(layer) + ".";
  const std::uint64_t q_dim = std::uint64_t{config.heads} * config.head_dim;
  const std::uint64_t kv_dim = std::uint64_t{config.kv_heads} * config.head_dim;
  TSR_TRY(w.q_bias, tensors.vector(prefix + "attn_q.bias", q_dim));
  TSR_TRY(w.k_bias, tensors.vector(prefix + "attn_k.bias", kv_dim));
  TSR_TRY(w.v_bias, tensors.vector(prefix + "attn_v.bias", kv_dim));
  return w;
}

}  // namespace

constinit const DecoderFamily kQwen2Family{kArchitectures, false, block};

}  // namespace tessera
