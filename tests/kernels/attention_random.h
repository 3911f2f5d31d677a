// Random descriptors of attention, every option beside every other.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/attention_case.h"
#include "support/draw.h"

namespace tessera::test {

// `count` + 1 ascending numbers from 0 (or more) to `last` (or less).
inline std::vector<std::uint32_t> random_cuts(Draw& draw, std::uint32_t count, std::uint32_t last) {
  std::vector<std::uint32_t> out;
  for (std::uint32_t i = 0; i <= count; ++i) out.push_back(draw.below(last + 1));
  std::sort(out.begin(), out.end());
  if (draw.chance(70)) out.front() = 0, out.back() = last;
  return out;
}

// Dimensions in a random order of nesting, with gaps now and then.
inline Strides random_strides(Draw& draw, const Strides& extents) {
  std::array<std::size_t, 4> order{0, 1, 2, 3};
  for (std::size_t i = 3; i > 0; --i)
    std::swap(order[i], order[draw.below(static_cast<std::uint32_t>(i) + 1)]);
  Strides strides{};
  std::uint64_t step = draw.chance(30) ? 2 : 1;
  for (const std::size_t i : order) {
    strides[i] = step;
    step *= extents[i];
    if (draw.chance(30)) step += draw.below(5);
  }
  return strides;
}

inline Strides broadcast(Draw& draw, const AttentionAttrs& a) {
  Strides strides{std::uint64_t{a.heads} * a.q_len * a.kv_len, std::uint64_t{a.q_len} * a.kv_len, a.kv_len,
                  1};
  for (std::uint64_t& s : strides)
    if (draw.chance(30)) s = 0;
  return strides;
}

inline void draw_sizes(Draw& draw, AttentionAttrs& a) {
  const auto group = draw.of({1u, 1u, 2u, 3u, 4u});
  a.batch = draw.of({1u, 1u, 2u, 3u});
  a.kv_heads = draw.of({1u, 2u, 3u});
  a.heads = a.kv_heads * group;
  a.q_len = draw.of({1u, 1u, 2u, 5u, 8u, 9u, 17u, 33u, 40u});
  a.kv_len = draw.of({1u, 7u, 31u, 32u, 33u, 63u, 64u, 70u, 131u, 300u});
  a.head_dim = draw.of({1u, 3u, 8u, 16u, 32u, 37u, 64u, 96u});
  a.v_dim = draw.chance(60) ? a.head_dim : draw.of({1u, 2u, 5u, 16u, 32u, 64u, 72u});
  a.scale = 1 / std::sqrt(static_cast<float>(a.head_dim));
}

// Where keys and rows come from: a cache of one sort or another, or tensors of a layout.
inline void draw_storage(Draw& draw, AttentionCase& c) {
  AttentionAttrs& a = c.shape.attrs;
  AttentionOperands& o = c.shape.operands;
  const std::uint32_t sort = draw.below(8);
  a.heads_first = draw.chance(50);
  a.cache = sort <= 4;
  if (sort <= 2) {
    o.state = true;
    c.rows = draw.chance(70) ? a.q_len : draw.below(a.q_len + 2);
    c.position = draw.below(a.kv_len + 3);
  } else if (draw.chance(50)) {
    o.lengths = true;
    for (std::uint32_t b = 0; b < a.batch; ++b) c.lengths.push_back(draw.below(a.kv_len + 3));
  } else if (sort >= 5 && draw.chance(60)) {
    a.batch = 1;
    o.documents = draw.of({1u, 2u, 5u});
    c.documents = random_cuts(draw, o.documents, a.q_len);
    for (const std::uint32_t key : random_cuts(draw, o.documents, a.kv_len)) c.documents.push_back(key);
  }
  if (sort == 1 || sort == 3) {
    a.block_size = draw.of({1u, 4u, 5u, 16u});
    const std::uint32_t blocks = (a.kv_len + a.block_size - 1) / a.block_size;
    a.kv_len = blocks * a.block_size;
    c.shape.blocks = blocks * a.batch + 3;
    o.table = true;
    std::vector<std::uint32_t> order(c.shape.blocks);
    std::iota(order.begin(), order.end(), 0u);
    for (std::uint32_t i = 0; i < blocks * a.batch; ++i) {
      std::swap(order[i], order[i + draw.below(c.shape.blocks - i)]);
      c.table.push_back(order[i]);
    }
  } else if (sort == 2 && a.kv_len > a.q_len) {
    a.ring = true;
    a.causal = Causal::bottom_right;
    a.window_left = draw.below(a.kv_len - a.q_len + 1);
    c.position = draw.below(4 * a.kv_len);
  }
}

inline void draw_options(Draw& draw, AttentionCase& c) {
  AttentionAttrs& a = c.shape.attrs;
  AttentionOperands& o = c.shape.operands;
  if (!a.ring) {
    a.causal = draw.of({Causal::none, Causal::none, Causal::top_left, Causal::bottom_right});
    if (draw.chance(25)) a.window_left = draw.below(a.kv_len);
    if (draw.chance(25)) a.window_right = draw.below(a.kv_len);
    if (draw.chance(35)) {
      o.mask = draw.of({DType::u8, DType::u8, DType::f32, DType::f16, DType::bf16});
      o.mask_strides = broadcast(draw, a);
    }
    if (draw.chance(25)) {
      o.bias = draw.of({DType::f32, DType::f16, DType::bf16});
      o.bias_strides = broadcast(draw, a);
    }
    if (draw.chance(35)) {
      a.scores = draw.of({AttentionScores::raw, AttentionScores::capped, AttentionScores::masked,
                          AttentionScores::weights, AttentionScores::average});
      a.score_head = draw.below(a.heads);
      a.score_row = draw.below(a.q_len);
      if (draw.chance(50)) a.score_heads = 1 + draw.below(a.heads - a.score_head);
      if (draw.chance(50)) a.score_rows = 1 + draw.below(a.q_len - a.score_row);
    }
  }
  if (draw.chance(20)) a.softcap = draw.of({0.5f, 3.0f, 50.0f});
  if (draw.chance(15)) a.score = AttentionScore::cosine, a.scale = 5;
  if (a.score == AttentionScore::dot && draw.chance(12)) a.score = AttentionScore::additive, a.scale = 1;
  if (!a.ring && draw.chance(12)) a.top_k = draw.of({1u, 2u, 5u, 40u});
  o.slopes = draw.chance(20);
  o.sinks = draw.chance(20);
  o.lse = draw.chance(40);
}

// Every block with a chance of its own, which may be none.
inline void draw_lists(Draw& draw, AttentionCase& c, std::uint32_t q_block, std::uint32_t k_block) {
  AttentionAttrs& a = c.shape.attrs;
  a.q_block = q_block;
  a.k_block = k_block;
  a.lists_by_batch = draw.chance(30);
  a.lists_by_head = draw.chance(30);
  const std::uint32_t share = draw.of({0u, 5u, 40u, 100u});
  const std::uint64_t lists = list_firsts(a) / (list_rows(a) + 1);
  std::vector<std::uint32_t> entries;
  for (std::uint64_t list = 0; list < lists; ++list)
    for (std::uint64_t row = 0; row <= list_rows(a); ++row) {
      c.lists.push_back(static_cast<std::uint32_t>(entries.size()));
      for (std::uint32_t key = 0; row < list_rows(a) && key < list_keys(a); ++key)
        if (draw.chance(share)) entries.push_back(key);
    }
  c.lists.insert(c.lists.end(), entries.begin(), entries.end());
  c.shape.operands.list_words = c.lists.size();
}

inline void draw_prefix_and_relative(Draw& draw, AttentionCase& c) {
  AttentionAttrs& a = c.shape.attrs;
  AttentionOperands& o = c.shape.operands;
  if (a.causal != Causal::none && !a.ring && draw.chance(30)) {
    if (o.documents == 0 && draw.chance(50)) {
      o.prefixes = true;
      for (std::uint32_t b = 0; b < a.batch; ++b) c.prefixes.push_back(draw.below(a.kv_len + 3));
    } else {
      a.prefix_length = 1 + draw.below(a.kv_len + 3);
    }
  }
  if (o.slopes || !draw.chance(30)) return;
  a.relative = RelativeBias::distance;
  a.relative_size = draw.of({0u, 1u, 7u, 128u});
}

inline AttentionCase random_case(std::uint32_t seed) {
  Draw draw(seed);
  AttentionCase c;
  c.seed = seed;
  AttentionAttrs& a = c.shape.attrs;
  draw_sizes(draw, a);
  draw_storage(draw, c);
  draw_options(draw, c);
  draw_prefix_and_relative(draw, c);
  if (!a.ring && draw.chance(30))
    draw_lists(draw, c, draw.of({1u, 1u, 2u, 3u, 8u, 16u, 64u}), draw.of({1u, 1u, 2u, 5u, 16u, 32u, 64u}));
  c.shape.q_type = draw.of({DType::f32, DType::f32, DType::f16, DType::bf16});
  c.shape.y_type = draw.of({DType::f32, DType::f32, DType::f16, DType::bf16});
  c.shape.kv_type = draw.of({DType::f32, DType::f16, DType::f16, DType::bf16});
  if (a.cache && a.head_dim % 32 == 0 && a.v_dim % 32 == 0 && draw.chance(50)) c.shape.kv_type = DType::q8_0;
  const Strides q{a.batch, a.heads, a.q_len, a.head_dim}, y{a.batch, a.heads, a.q_len, a.v_dim};
  const Strides k{a.batch, a.kv_heads, a.kv_len, a.head_dim}, v{a.batch, a.kv_heads, a.kv_len, a.v_dim};
  if (draw.chance(25)) a.q_strides = random_strides(draw, q);
  if (draw.chance(25)) a.y_strides = random_strides(draw, y);
  if (!a.cache && draw.chance(25))
    a.k_strides = random_strides(draw, k), a.v_strides = random_strides(draw, v);
  return c;
}

}  // namespace tessera::test
