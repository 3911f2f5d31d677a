// What differs from one family of decoders to another.
#pragma once

#include <span>
#include <string_view>

#include "models/decoder.h"
#include "models/tensors.h"

namespace tessera {

// One layer's tensors; biases are kNoValue where the model has none.
struct BlockWeights {
  ValueId attn_norm = kNoValue;
  ValueId q = kNoValue, k = kNoValue, v = kNoValue, out = kNoValue;
  ValueId q_bias = kNoValue, k_bias = kNoValue, v_bias = kNoValue, out_bias = kNoValue;
  ValueId ffn_norm = kNoValue;
  ValueId gate = kNoValue, up = kNoValue, down = kNoValue;
  ValueId gate_bias = kNoValue, up_bias = kNoValue, down_bias = kNoValue;
};

struct DecoderFamily {
  std::span<const std::string_view> architectures;  // general.architecture
  bool rope_adjacent;
  Result<BlockWeights> (*block)(ModelTensors& tensors, const DecoderConfig& config, std::uint32_t layer);
};
extern const DecoderFamily kLlamaFamily;
extern const DecoderFamily kQwen2Family;

// Null when no family has it.
const DecoderFamily* find_family(std::string_view architecture);

// The matrices and norms that all families share; biases are left absent.
Result<BlockWeights> read_block(ModelTensors& tensors, const DecoderConfig& config, std::uint32_t layer);

}  // namespace tessera
