// Each public op: what it takes, and its program.
#pragma once

#include "ops/arguments.h"

namespace tessera {

extern const OpInfo kAttentionOp, kRotaryOp, kSoftmaxOp, kRmsNormOp, kLayerNormOp, kMatmulOp, kActivationOp,
    kGluOp, kAddOp, kEmbeddingOp, kKvAppendOp, kRopeAppendOp;

Result<BuiltOp> build_attention(const Arguments& args);
Result<BuiltOp> build_rotary(const Arguments& args);
Result<BuiltOp> build_softmax(const Arguments& args);
Result<BuiltOp> build_rms_norm(const Arguments& args);
Result<BuiltOp> build_layer_norm(const Arguments& args);
Result<BuiltOp> build_matmul(const Arguments& args);
Result<BuiltOp> build_activation(const Arguments& args);
Result<BuiltOp> build_glu(const Arguments& args);
Result<BuiltOp> build_add(const Arguments& args);
Result<BuiltOp> build_embedding(const Arguments& args);
Result<BuiltOp> build_kv_append(const Arguments& args);
Result<BuiltOp> build_rope_append(const Arguments& args);

// Of attributes whose choices are named as graph activations are.
Activation parse_activation(std::string_view name);
// The dimension that `attribute` names; negative ones count from the end.
Result<std::size_t> axis_of(const Arguments& args, std::string_view attribute, std::string_view input);

inline constexpr std::string_view kReals = "F32 F16 BF16";
inline constexpr std::string_view kIntegers = "I64 I32 U32";

}  // namespace tessera
