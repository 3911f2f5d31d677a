#include "ops/ops.h"

#include <algorithm>
#include <array>

#include "base/text.h"
#include "ops/builders.h"

namespace tessera {
namespace {

struct Entry {
  const OpInfo* info;
  Result<BuiltOp> (*build)(const Arguments& args);
};
constexpr Entry kEntries[] = {{&kAttentionOp, build_attention},
                              {&kLinearAttentionOp, build_linear_attention},
                              {&kLinformerOp, build_linformer},
                              {&kRotaryOp, build_rotary},
                              {&kKvAppendOp, build_kv_append},
                              {&kRopeAppendOp, build_rope_append},
                              {&kSoftmaxOp, build_softmax},
                              {&kRmsNormOp, build_rms_norm},
                              {&kLayerNormOp, build_layer_norm},
                              {&kMatmulOp, build_matmul},
                              {&kFeedForwardOp, build_feed_forward},
                              {&kMlpOp, build_mlp},
                              {&kActivationOp, build_activation},
                              {&kGluOp, build_glu},
                              {&kAddOp, build_add},
                              {&kEmbeddingOp, build_embedding}};

}  // namespace

std::span<const OpInfo> op_list() {
  static const auto kList = [] {
    std::array<OpInfo, std::size(kEntries)> list{};
    for (std::size_t i = 0; i < list.size(); ++i) list[i] = *kEntries[i].info;
    return list;
  }();
  return kList;
}

Result<BuiltOp> build_op(const OpRequest& request) {
  const auto* entry = std::ranges::find(kEntries, request.op, [](const Entry& e) { return e.info->name; });
  if (entry == std::end(kEntries)) {
    std::vector<std::string_view> names;
    for (const Entry& e : kEntries) names.push_back(e.info->name);
    return Error{Code::invalid_argument,
                 "there is no op " + quote(request.op, 80) + suggest(request.op, names)};
  }
  if (request.user != nullptr && entry->info != &kAttentionOp)
    return Error{Code::invalid_argument, request.op + " takes no score_glsl and mask_glsl, attention does"};
  TSR_TRY(const Arguments args, Arguments::create(*entry->info, request));
  return entry->build(args);
}

}  // namespace tessera
