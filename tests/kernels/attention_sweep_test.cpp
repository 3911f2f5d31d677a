// Every option of attention with every other: random descriptors, and relations between results that hold
// whatever the numbers are.
#include <gmock/gmock.h>

#include <numeric>

#include "kernels/attention_random.h"
#include "kernels/attention_run.h"
#include "support/sweep.h"

namespace tessera::test {
namespace {

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
        check_share(c);
        c.shape.attrs.window_left = 20;
        check_share(c);
      }
}

// Of each sequence, of any size.
TEST_F(AttentionGpu, PrefixesOfSequences) {
  AttentionCase c = plain(33, 70, 12);
  c.shape.attrs.batch = 4;
  c.shape.attrs.causal = Causal::top_left;
  c.shape.operands.prefixes = true;
  c.prefixes = {0, 71, 0xffffffff, 69};
  check(c);
  c.shape.attrs.window_right = 5;
  check(c);
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
        check_share(c);
      }
}

TEST_F(AttentionGpu, TopK) {
  for (std::uint32_t rows : {1u, 8u, 40u})
    for (std::uint32_t k : {1u, 2u, 31u, 129u, 130u, 131u, 500u}) {
      AttentionCase c = plain(rows, 131, 16);
      c.shape.attrs.top_k = k;
      c.shape.operands.lse = true;
      check_share(c);
      c.shape.attrs.causal = Causal::bottom_right;
      c.shape.attrs.scores = AttentionScores::weights;
      check_share(c);
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
      check_share(c);
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
  for (const auto& [rows, scores] : {std::pair{4u, AttentionScores::none}, {40u, AttentionScores::weights}}) {
    AttentionCase c = plain(rows, 64, 8);
    c.shape.attrs.scores = scores;
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
