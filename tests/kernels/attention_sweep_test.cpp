// Every option of attention with every other: random descriptors, and relations between results that hold
// whatever the numbers are.
#include <gmock/gmock.h>

#include <numeric>

#include "kernels/attention_run.h"
#include "support/sweep.h"

namespace tessera::test {
namespace {

class Draw {
 public:
  explicit Draw(std::uint32_t seed) : engine_(seed) {}
  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(engine_() % n); }
  bool chance(std::uint32_t percent) { return below(100) < percent; }
  template <typename T>
  T of(std::initializer_list<T> list) {
    return list.begin()[below(static_cast<std::uint32_t>(list.size()))];
  }
  // `count` + 1 ascending numbers from 0 (or more) to `last` (or less).
  std::vector<std::uint32_t> cuts(std::uint32_t count, std::uint32_t last) {
    std::vector<std::uint32_t> out;
    for (std::uint32_t i = 0; i <= count; ++i) out.push_back(below(last + 1));
    std::sort(out.begin(), out.end());
    if (chance(70)) out.front() = 0, out.back() = last;
    return out;
  }

 private:
  std::mt19937 engine_;
};

// Dimensions in a random order of nesting, with gaps now and then.
Strides random_strides(Draw& draw, const Strides& extents) {
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

Strides broadcast(Draw& draw, const AttentionAttrs& a) {
  Strides strides{std::uint64_t{a.heads} * a.q_len * a.kv_len, std::uint64_t{a.q_len} * a.kv_len, a.kv_len,
                  1};
  for (std::uint64_t& s : strides)
    if (draw.chance(30)) s = 0;
  return strides;
}

void draw_sizes(Draw& draw, AttentionAttrs& a) {
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
void draw_storage(Draw& draw, AttentionCase& c) {
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
    c.documents = draw.cuts(o.documents, a.q_len);
    for (const std::uint32_t key : draw.cuts(o.documents, a.kv_len)) c.documents.push_back(key);
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

void draw_options(Draw& draw, AttentionCase& c) {
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
      a.scores = draw.of(
          {AttentionScores::raw, AttentionScores::capped, AttentionScores::masked, AttentionScores::weights});
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
void draw_lists(Draw& draw, AttentionCase& c, std::uint32_t q_block, std::uint32_t k_block) {
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

void draw_prefix_and_relative(Draw& draw, AttentionCase& c) {
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

AttentionCase random_case(std::uint32_t seed) {
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

std::uint32_t cases(std::uint32_t usual) { return usual * sweep_percent() / 100; }

TEST_F(AttentionGpu, RandomDescriptors) {
  for (std::uint32_t seed = 1; seed <= cases(80); ++seed) {
    check(random_case(seed), seed % 5 == 0 ? 2 : 1);
    if (HasFatalFailure()) return;
  }
}

TEST_F(AttentionGpu, RandomDescriptorsInMixedPrecision) {
  for (std::uint32_t seed = 1; seed <= cases(60); ++seed) {
    AttentionCase c = random_case(seed);
    c.shape.attrs.precision = Precision::mixed;
    check(c, seed % 5 == 0 ? 2 : 1);
    if (HasFatalFailure()) return;
  }
}

AttentionCase plain(std::uint32_t rows, std::uint32_t keys, std::uint32_t dim) {
  AttentionCase c;
  AttentionAttrs& a = c.shape.attrs;
  a.heads = 4;
  a.kv_heads = 2;
  a.q_len = rows;
  a.kv_len = keys;
  a.head_dim = a.v_dim = dim;
  a.scale = 1 / std::sqrt(static_cast<float>(dim));
  return c;
}

TEST_F(AttentionGpu, NoKeys) {
  for (std::uint32_t rows : {1u, 20u})
    for (bool sinks : {false, true}) {
      AttentionCase c = plain(rows, 0, 8);
      c.shape.operands.lse = true;
      c.shape.operands.sinks = sinks;
      check(c);
      c = plain(rows, 50, 8);
      c.shape.operands.lse = c.shape.operands.lengths = true;
      c.shape.operands.sinks = sinks;
      c.lengths = {0};
      check(c);
    }
}

TEST_F(AttentionGpu, EveryKeyMaskedGivesZero) {
  for (std::uint32_t rows : {1u, 20u})
    for (DType type : {DType::u8, DType::f16}) {
      AttentionCase c = plain(rows, 50, 8);
      c.shape.operands.mask = type;
      c.shape.operands.mask_strides = {0, 0, 0, 1};
      c.shape.operands.lse = true;
      c.keep = -1;
      check(c);
    }
}

TEST_F(AttentionGpu, WeightsSumToOneAndValuesOfOneGiveOne) {
  for (std::uint32_t rows : {3u, 20u}) {
    AttentionCase c = plain(rows, 77, 24);
    c.shape.attrs.causal = Causal::bottom_right;
    c.shape.attrs.scores = AttentionScores::weights;
    c.ones = true;
    Attention a(c);
    ASSERT_TRUE(run(a));
    for (const double y : a.y_values()) EXPECT_NEAR(y, 1, 1e-5);
    const std::vector<float> weights = from_bytes<float>(a.scores);
    for (std::size_t row = 0; row < weights.size() / 77; ++row)
      EXPECT_NEAR(std::accumulate(weights.begin() + std::ptrdiff_t(row * 77),
                                  weights.begin() + std::ptrdiff_t(row * 77 + 77), 0.0),
                  1, 1e-5);
  }
}

TEST_F(AttentionGpu, TheOrderOfKeysDoesNotMatter) {
  for (std::uint32_t rows : {3u, 20u}) {
    AttentionCase c = plain(rows, 150, 16);
    c.shape.operands.mask = DType::u8;
    c.shape.operands.mask_strides = {0, 0, 150, 1};
    Attention a(c);
    ASSERT_TRUE(run(a));
    c.key_order.resize(150);
    for (std::uint32_t j = 0; j < 150; ++j) c.key_order[j] = j * 7 % 150;
    Attention b(c);
    ASSERT_TRUE(run(b));
    const std::vector<double> x = a.y_values(), y = b.y_values();
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], y[i], 1e-5);
  }
}

TEST_F(AttentionGpu, OneSplitIsAsGoodAsMany) {
  AttentionCase c = plain(2, 1000, 40);
  c.shape.operands.sinks = c.shape.operands.lse = true;
  check(c);
  most_groups_[0] = 1;
  check(c);
}

TEST_F(AttentionGpu, DecodingGivesTheRowsOfAPrefill) {
  AttentionCase c = plain(40, 300, 32);
  c.shape.attrs.cache = c.shape.operands.state = true;
  c.shape.attrs.causal = Causal::bottom_right;
  c.rows = 40;
  Attention all(c);
  ASSERT_TRUE(run(all));
  const std::vector<double> prefill = all.y_values();
  c.shape.attrs.q_len = c.rows = 1;
  for (std::uint32_t position : {0u, 1u, 17u, 39u}) {
    c.position = position;
    Attention one(c);
    ASSERT_TRUE(run(one));
    const std::vector<double> decoded = one.y_values();
    for (std::size_t i = 0; i < decoded.size(); ++i)
      EXPECT_NEAR(decoded[i], prefill[position * decoded.size() + i], 1e-5);
  }
}

// A prompt in chunks through the cache gives what it gives in one pass, whatever the size of a chunk.
TEST_F(AttentionGpu, ChunksGiveTheRowsOfOnePass) {
  constexpr std::uint32_t kPrompt = 47;
  for (const bool window : {false, true})
    for (const bool software : {true, false}) {
      software_ = software;
      AttentionCase c = plain(kPrompt, 96, 24);
      c.shape.attrs.cache = c.shape.operands.state = c.shape.operands.lse = true;
      c.shape.attrs.causal = Causal::bottom_right;
      if (window) c.shape.attrs.window_left = 12;
      c.shape.kv_type = DType::f16;
      c.rows = kPrompt;
      Attention all(c);
      ASSERT_TRUE(run(all));
      const std::vector<double> whole = all.y_values();
      const std::vector<float> whole_lse = from_bytes<float>(all.lse);
      for (std::uint32_t chunk : {1u, 2u, 7u, 13u, 16u, 31u, 46u}) {
        SCOPED_TRACE("chunks of " + std::to_string(chunk));
        c.shape.attrs.q_len = chunk;
        for (c.position = 0; c.position < kPrompt; c.position += chunk) {
          c.rows = std::min(chunk, kPrompt - c.position);
          Attention part(c);
          ASSERT_TRUE(run(part));
          const std::vector<double> y = part.y_values();
          const std::size_t row = y.size() / chunk;
          for (std::size_t i = 0; i < c.rows * row; ++i)
            ASSERT_NEAR(y[i], whole[c.position * row + i], 1e-5) << "row " << c.position + i / row;
          const std::vector<float> lse = from_bytes<float>(part.lse);
          for (std::uint32_t h = 0; h < c.shape.attrs.heads; ++h)
            for (std::uint32_t i = 0; i < c.rows; ++i)
              ASSERT_NEAR(lse[h * chunk + i], whole_lse[h * kPrompt + c.position + i], 1e-5);
        }
        c.position = 0;
      }
      software_ = true;
    }
}

TEST_F(AttentionGpu, Prefixes) {
  for (std::uint32_t rows : {3u, 40u, 97u})
    for (std::uint32_t prefix : {1u, 31u, 32u, 33u, 97u, 200u})
      for (Causal causal : {Causal::top_left, Causal::bottom_right}) {
        AttentionCase c = plain(rows, 97, 12);
        c.shape.attrs.causal = causal;
        c.shape.attrs.prefix_length = prefix;
        check(c);
        c.shape.attrs.window_left = 20;
        check(c);
      }
}

TEST_F(AttentionGpu, RelativeBiasOfAWindow) {
  for (const auto& [rows, columns] : {std::pair{7u, 7u}, {1u, 13u}, {5u, 1u}, {2u, 3u}, {8u, 12u}}) {
    AttentionCase c = plain(rows * columns, rows * columns, 32);
    c.shape.attrs.batch = 3;
    c.shape.attrs.relative = RelativeBias::window;
    c.shape.attrs.relative_size = columns;
    check(c);
  }
}

TEST_F(AttentionGpu, AdditiveScores) {
  for (std::uint32_t dim : {1u, 5u, 16u, 32u, 65u})
    for (std::uint32_t rows : {1u, 8u, 33u})
      for (float spread : {1.0f, 500.0f}) {
        AttentionCase c = plain(rows, 67, dim);
        c.shape.attrs.score = AttentionScore::additive;
        c.shape.attrs.scale = 1;
        c.shape.attrs.causal = Causal::bottom_right;
        c.shape.operands.lse = true;
        c.spread = spread;
        check(c);
      }
}

TEST_F(AttentionGpu, TopK) {
  for (std::uint32_t rows : {1u, 8u, 40u})
    for (std::uint32_t k : {1u, 2u, 31u, 129u, 130u, 131u, 500u}) {
      AttentionCase c = plain(rows, 131, 16);
      c.shape.attrs.top_k = k;
      c.shape.operands.lse = true;
      check(c);
      c.shape.attrs.causal = Causal::bottom_right;
      c.shape.attrs.scores = AttentionScores::weights;
      check(c);
    }
}

// Keys whose scores are equal: the first ones remain.
TEST_F(AttentionGpu, TopKOfEqualScoresKeepsTheFirstKeys) {
  for (std::uint32_t rows : {1u, 40u})
    for (std::uint32_t k : {1u, 7u, 256u, 299u}) {
      AttentionCase c = plain(rows, 300, 8);
      c.shape.attrs.top_k = k;
      c.shape.attrs.scores = AttentionScores::weights;
      c.spread = 0;
      Attention a(c);
      ASSERT_TRUE(run(a));
      const std::vector<float> weights = from_bytes<float>(a.scores);
      for (std::size_t i = 0; i < weights.size(); ++i)
        ASSERT_NEAR(weights[i], i % 300 < k ? 1.0 / k : 0.0, 1e-6) << "key " << i % 300 << " of " << k;
    }
}

// Whatever the sizes of blocks and tiles: only what the lists name is seen, by few rows and by many.
TEST_F(AttentionGpu, BlockLists) {
  std::uint32_t seed = 1;
  for (std::uint32_t q_block : {1u, 7u, 16u, 33u, 64u, 200u})
    for (std::uint32_t k_block : {1u, 3u, 16u, 31u, 32u, 33u, 300u}) {
      Draw draw(++seed);
      AttentionCase c = plain(70, 131, 24);
      c.shape.attrs.batch = 2;
      c.shape.attrs.causal = draw.of({Causal::none, Causal::top_left});
      c.shape.operands.lse = true;
      draw_lists(draw, c, q_block, k_block);
      check(c);
      if (HasFatalFailure()) return;
    }
}

// A graph: each node sees its neighbours, one of them many, most of them none.
TEST_F(AttentionGpu, Neighbours) {
  for (std::uint32_t kv_heads : {4u, 1u}) {
    AttentionCase c = plain(257, 257, 20);
    AttentionAttrs& a = c.shape.attrs;
    a.kv_heads = kv_heads;
    a.q_block = a.k_block = 1;
    c.shape.operands.lse = true;
    std::vector<std::uint32_t> entries;
    for (std::uint32_t node = 0; node <= 257; ++node) {
      c.lists.push_back(static_cast<std::uint32_t>(entries.size()));
      for (std::uint32_t other = 0; node < 257 && other < 257; ++other)
        if (node == 200 || (node % 3 == 0 && (node + other) % 41 == 0)) entries.push_back(other);
    }
    c.lists.insert(c.lists.end(), entries.begin(), entries.end());
    c.shape.operands.list_words = c.lists.size();
    check(c);
  }
}

// Lists with entries that do not ascend or are past the end give something, and touch nothing else.
TEST_F(AttentionGpu, BadListsReadNothingOutside) {
  for (std::uint32_t rows : {4u, 40u}) {
    AttentionCase c = plain(rows, 64, 8);
    c.shape.attrs.q_block = rows;
    c.shape.attrs.k_block = 8;
    for (const std::vector<std::uint32_t>& lists :
         {std::vector<std::uint32_t>{0, 3, 0xffffffff, 2, 0},
          std::vector<std::uint32_t>{0, 0xffffffff, 7, 200, 3}, std::vector<std::uint32_t>{5, 2, 1, 2, 3}}) {
      c.lists = lists;
      c.shape.operands.list_words = lists.size();
      Attention a(c);
      ASSERT_TRUE(run(a));
      for (const double y : a.y_values()) ASSERT_TRUE(std::isfinite(y));
    }
  }
}

TEST_F(AttentionGpu, BadBlocksAreTakenForTheLast) {
  AttentionCase c = plain(1, 32, 16);
  c.shape.attrs.cache = c.shape.operands.table = true;
  c.shape.attrs.block_size = 8;
  c.shape.blocks = 5;
  c.table = {3, 0xffffffff, 0, 1};
  check(c);
}

TEST_F(AttentionGpu, LargestHeads) {
  for (std::uint32_t rows : {1u, 20u}) {
    AttentionCase c = plain(rows, 40, 512);
    check(c);
    c.shape.attrs.head_dim = 500;
    c.shape.attrs.v_dim = 3;
    check(c);
    c.shape.attrs.head_dim = 1;
    c.shape.attrs.v_dim = 511;
    check(c);
  }
}

}  // namespace
}  // namespace tessera::test
