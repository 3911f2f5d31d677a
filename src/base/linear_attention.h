// What one linear attention computes: the descriptor that graphs, kernels, the reference and the public op
// share.
//
// Of each sequence and KV head a state S (k_dim, v_dim) goes from row to row, S_0 = past or zeros:
//
//   S'_t = diag(exp(g_t)) S_(t-1)                    gated, gated_delta; else S' = S
//   u_t  = v_t                                       linear, gated
//   u_t  = beta_t (v_t - S'_t^T f(k_t))              delta, gated_delta
//   S_t  = S'_t + f(k_t) u_t^T
//   y_t  = scale S_t^T f(q_t)                        not causal: S of the last row for all
//
// f is the feature map. Normalised, y_t is divided by z_t . f(q_t) + epsilon, where z goes as S does with u =
// 1; a row whose denominator is 0 gives zeros. Head h reads the state of KV head h / (heads / kv_heads).
#pragma once

#include <cstdint>

namespace tessera {

// One step of the state.
enum class UpdateRule : std::uint8_t { linear, gated, delta, gated_delta };
inline bool is_gated(UpdateRule rule) { return rule == UpdateRule::gated || rule == UpdateRule::gated_delta; }
inline bool is_delta(UpdateRule rule) { return rule == UpdateRule::delta || rule == UpdateRule::gated_delta; }

// elu_plus_one: x + 1 where x > 0, else exp(x).
enum class FeatureMap : std::uint8_t { none, elu_plus_one, relu, exp };

// Most elements of a head's q and k.
inline constexpr std::uint32_t kMaxStateRows = 512;

struct LinearAttentionAttrs {
  std::uint32_t batch = 1;
  std::uint32_t len = 1;  // rows of a sequence
  std::uint32_t heads = 1, kv_heads = 1;
  std::uint32_t k_dim = 0;  // of q and k, 1 to kMaxStateRows
  std::uint32_t v_dim = 0;  // of v and y
  UpdateRule rule = UpdateRule::linear;
  FeatureMap map = FeatureMap::none;  // delta rules: none
  float scale = 1;
  bool causal = true;         // false: rule linear alone
  bool normalise = false;     // not with a delta rule
  float epsilon = 0;          // with normalise
  bool decay_by_dim = false;  // g_t is (kv_heads * k_dim), else (kv_heads): one for all rows of the state
  bool beta_by_head = false;  // beta_t is (kv_heads), else (1)
  bool shared_keys = false;   // k is that of one sequence, and all have it
};

}  // namespace tessera
