// Llama and Mistral (whose files call themselves llama): RMSNorm, gated SiLU, RoPE on adjacent pairs. Biases
// are rare but allowed.
#include <array>

#include "models/family.h"

namespace tessera {
namespace {

constexpr std::array<std::string_view, 2> kArchitectures{"llama", "mistral"};

Result<BlockWeights> block(ModelTensors& tensors, const DecoderConfig& config, std::uint32_t layer) {
  TSR_TRY(BlockWeights w, read_block(tensors, config, layer));
  const std::string prefix = "blk." + std::to_string(layer) + ".";
  const std::uint64_t q_dim = std::uint64_t{config.heads} * config.head_dim;
  const std::uint64_t kv_dim = std::uint64_t{config.kv_heads} * config.head_dim;
  TSR_TRY(w.q_bias, tensors.optional_vector(prefix + "attn_q.bias", q_dim));
  TSR_TRY(w.k_bias, tensors.optional_vector(prefix + "attn_k.bias", kv_dim));
  TSR_TRY(w.v_bias, tensors.optional_vector(prefix + "attn_v.bias", kv_dim));
  TSR_TRY(w.out_bias, tensors.optional_vector(prefix + "attn_output.bias", config.dim));
  TSR_TRY(w.gate_bias, tensors.optional_vector(prefix + "ffn_gate.bias", config.hidden));
  TSR_TRY(w.up_bias, tensors.optional_vector(prefix + "ffn_up.bias", config.hidden));
  TSR_TRY(w.down_bias, tensors.optional_vector(prefix + "ffn_down.bias", config.dim));
  return w;
}

}  // namespace

constinit const DecoderFamily kLlamaFamily{kArchitectures, true, block};

}  // namespace tessera
