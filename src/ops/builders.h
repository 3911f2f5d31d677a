// Each public op: what it takes, and its program.
#pragma once

#include "ops/arguments.h"

namespace tessera {

extern const OpInfo kAttentionOp, kRotaryOp, kSoftmaxOp, kRmsNormOp, kLayerNormOp, kMatmulOp, kActivationOp,
    kGluOp, kAddOp, kEmbeddingOp, kFeedForwardOp, kMlpOp, kKvAppendOp, kRopeAppendOp, kLinearAttentionOp,
    kLinformerOp;

Result<BuiltOp> build_attention(const Arguments& args);
Result<BuiltOp> build_linear_attention(const Arguments& args);
Result<BuiltOp> build_linformer(const Arguments& args);
Result<BuiltOp> build_rotary(const Arguments& args);
Result<BuiltOp> build_softmax(const Arguments& args);
Result<BuiltOp> build_rms_norm(const Arguments& args);
Result<BuiltOp> build_layer_norm(const Arguments& args);
Result<BuiltOp> build_matmul(const Arguments& args);
Result<BuiltOp> build_feed_forward(const Arguments& args);
Result<BuiltOp> build_mlp(const Arguments& args);
Result<BuiltOp> build_activation(const Arguments& args);
Result<BuiltOp> build_glu(const Arguments& args);
Result<BuiltOp> build_add(const Arguments& args);
Result<BuiltOp> build_embedding(const Arguments& args);
Result<BuiltOp> build_kv_append(const Arguments& args);
Result<BuiltOp> build_rope_append(const Arguments& args);

class OpProgram;
// A matrix of the caller's, or several, as a weight, encoded as `type` when it is of another; in another
// shape if need be.
ValueId weight_of(OpProgram& p, const Arguments& args, std::string_view name, DType type);
ValueId weight_of(OpProgram& p, const Arguments& args, std::string_view name, DType type,
                  const std::vector<std::uint64_t>& shape);
// An input of (n), or zeros.
ValueId bias_of(OpProgram& p, const Arguments& args, std::string_view name, std::uint64_t n);
// block_table's entries; one that is no block below `blocks` is 0. None when only its shape is known.
std::vector<std::uint32_t> blocks_of(const Arguments& args, std::uint64_t blocks);
// `bias` is absent or (n).
Result<void> check_bias(const Arguments& args, std::string_view bias, std::uint64_t n);

// Of attributes whose choices are named as graph activations are.
Activation parse_activation(std::string_view name);
// The dimension that `attribute` names; negative ones count from the end.
Result<std::size_t> axis_of(const Arguments& args, std::string_view attribute, std::string_view input);

inline constexpr std::string_view kReals = "F32 F16 BF16";
inline constexpr std::string_view kWeights = "F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q5_K Q6_K";
inline constexpr std::string_view kIntegers = "I64 I32 U32";
inline constexpr double kMostCount = 4294967295.0;  // of attributes that count something

}  // namespace tessera
