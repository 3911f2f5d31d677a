#include <bit>
#include <cmath>

#include "kernels/data.h"
#include "kernels/matmul_shape.h"
#include "support/gpu_fixture.h"
#include "support/sweep.h"

namespace tessera::test {
namespace {

struct Layer {
  std::uint32_t n, act;
  bool bias;
};

// A network with its numbers, its weights one after the other in one binding, and what y is in double.
class Network {
 public:
  MlpShape shape;
  std::vector<float> x;
  std::vector<TestWeights> weights;
  std::vector<std::vector<float>> biases;
  std::vector<Bytes> bias_bytes;
  Bytes packed;
  std::uint32_t live_rows;

  Network(DType type, std::uint32_t rows, std::uint32_t k, const std::vector<Layer>& layers,
          std::uint32_t live = 0)
      : live_rows(live != 0 ? live : rows) {
    shape.rows = rows;
    shape.k = k;
    shape.type = type;
    x = rounded(DType::f16, random_floats(std::size_t{rows} * k, 1));
    std::fill(x.begin() + std::ptrdiff_t{live_rows} * k, x.end(), std::nanf(""));
    for (const Layer& layer : layers) {
      weights.push_back(make_weights(type, layer.n, k, 10 + layer.n));
      biases.push_back(random_floats(layer.n, 20 + layer.n));
      bias_bytes.push_back(to_bytes(biases.back()));
      MlpLayer l{.n = layer.n, .act = layer.act, .bias = layer.bias};
      l.weights_at = append(weights.back().device);
      l.bias_at = append(bias_bytes.back());
      shape.layers.push_back(l);
      k = layer.n;
    }
    shape.weight_bytes = packed.size();
  }

  std::uint32_t n() const { return shape.layers.back().n; }

  struct Value {
    double value = 0, bound = 0;
  };
  std::vector<Value> expected(std::uint32_t row) const {
    std::vector<Value> h;
    for (std::uint32_t i = 0; i < shape.k; ++i) h.push_back({x[std::size_t{row} * shape.k + i], 0});
    for (std::size_t l = 0; l < weights.size(); ++l) {
      std::vector<Value> out;
      for (std::uint32_t n = 0; n < shape.layers[l].n; ++n) {
        double magnitude = 0;
        Value y;
        for (std::size_t i = 0; i < h.size(); ++i) {
          const double w = weights[l].values[n * h.size() + i];
          y.value += h[i].value * w;
          y.bound += h[i].bound * std::abs(w);
          magnitude += (std::abs(h[i].value) + h[i].bound) * std::abs(w);
        }
        if (shape.layers[l].bias) {
          y.value += biases[l][n];
          magnitude += std::abs(biases[l][n]);
        }
        y.bound += (static_cast<double>(h.size()) + 8) * 0x1p-24 * magnitude;
        out.push_back({activate(shape.layers[l].act, y.value),
                       activation_bound(shape.layers[l].act, y.value, y.bound)});
      }
      h = std::move(out);
    }
    for (Value& v : h)
      if (shape.y_type == DType::f16) v.bound += std::max(0x1p-11 * (std::abs(v.value) + v.bound), 0x1p-25);
    return h;
  }

 private:
  std::uint64_t append(const Bytes& bytes) {
    packed.resize((packed.size() + 15) / 16 * 16);
    const std::uint64_t at = packed.size();
    packed.insert(packed.end(), bytes.begin(), bytes.end());
    return at;
  }
};

// Whether one kernel can have the network, from what it keeps on chip: rows as long as the longest, twice,
// and four of them where there are as many.
bool fits_one_kernel(const MlpShape& s, const Target& t) {
  if (s.weight_bytes == 0 || s.weight_bytes > t.limits.max_storage_range) return false;
  std::uint32_t longest = s.k;
  for (std::size_t i = 0; i + 1 < s.layers.size(); ++i) longest = std::max(longest, s.layers[i].n);
  const std::uint32_t vec4 = 2 * ((longest + 7) / 8), rows = std::min(4u, s.rows);
  if (takes_lanes(t))
    return t.limits.max_shared_bytes / (2 * vec4 * 16) >= rows &&
           (t.limits.subgroup_size >= 8 || info(s.type).block_elems == 1);
  return std::min(t.limits.max_group_invocations, t.limits.max_group_size[0]) >= 64 &&
         2 * std::bit_ceil(rows) * (vec4 + 1) * 16 <= std::min(t.limits.max_shared_bytes, 32768u);
}

class MlpGpu : public GpuTest {
 protected:
  static constexpr int kProductRuns = 4;  // products are tested by themselves too
  int fused_ = 0, products_ = 0;

  // Nothing where the device cannot have the one kernel that is asked for, which is refused for a reason.
  void run(Network& net, const Target& target, std::uint32_t slices = 1) {
    const auto choice = choose_mlp(net.shape, target);
    const bool fused = target.form == "mlp_fused";
    ASSERT_EQ(choice.ok(), !fused || fits_one_kernel(net.shape, target))
        << (choice ? "" : choice.error().message);
    if (!choice) {
      EXPECT_EQ(choice.error().code, Code::unsupported) << choice.error().message;
      return;
    }
    ++(fused ? fused_ : products_);
    Bytes state = state_bytes(0, net.live_rows), x = stored(net.shape.x_type, net.x);
    const bool half = net.shape.y_type == DType::f16;
    const std::size_t elems = std::size_t{net.shape.rows} * net.n();
    Bytes y = poisoned(half ? (elems + 1) / 2 : elems);
    std::vector<Bytes*> operands{&x, &net.packed, &y, &state};
    for (std::size_t i = 0; i < net.weights.size(); ++i)
      operands.insert(operands.end(), {&net.weights[i].device, &net.bias_bytes[i]});
    ASSERT_TRUE(run_call(*device_, choice->dispatches, choice->scratch, operands, slices));
    const auto words = from_bytes<std::uint32_t>(y);
    const auto halves = from_bytes<std::uint16_t>(y);
    for (std::uint32_t row = 0; row < net.live_rows; ++row) {
      const std::vector<Network::Value> expected = net.expected(row);
      for (std::uint32_t n = 0; n < net.n(); ++n) {
        const std::size_t i = std::size_t{row} * net.n() + n;
        const double found = half ? f16_to_f32(halves[i]) : std::bit_cast<float>(words[i]);
        ASSERT_LE(std::abs(found - expected[n].value), expected[n].bound)
            << info(net.shape.type).name << (fused ? " fused" : " products") << " y[" << row << "," << n
            << "] is " << found << ", not " << expected[n].value;
      }
    }
    for (std::size_t i = std::size_t{net.live_rows} * net.n(); i < elems; ++i)
      ASSERT_EQ(half ? halves[i] : words[i],
                half ? (i % 2 == 0 ? kPoison & 0xffff : kPoison >> 16) : kPoison);
  }

  // In the form that the device gets, on a software driver in the one for GPUs too, and a product a layer.
  void check(Network net, std::uint32_t slices = 1) {
    Target t = target_of(*device_);
    t.form = "mlp_fused";
    run(net, t, slices);
    if (HasFatalFailure()) return;
    if (t.caps.software) {
      t.caps.software = false;
      run(net, t, slices);
    }
    t.form = "mlp_products";
    if (!HasFatalFailure() && products_ < kProductRuns) run(net, t, slices);
  }
};

TEST_F(MlpGpu, WidthsAndDepths) {
  check({DType::f32, 1, 1, {{1, 0, true}}});
  check({DType::f32, 7, 3, {{5, 4, true}, {2, 0, false}}});
  check({DType::f32, 65, 16, {{16, 4, true}, {16, 4, true}, {16, 4, true}, {3, 6, true}}});
  check({DType::f16, 33, 37, {{61, 1, false}, {7, 2, true}, {129, 3, true}, {1, 0, true}}});
  check({DType::f32, 130, 64, {{64, 4, true}, {64, 4, false}, {64, 0, true}}});
  EXPECT_GT(fused_, 0);
}

TEST_F(MlpGpu, EveryType) {
  Sweep sweep;
  for (const DType type : kWeightTypes) {
    const std::uint32_t k = std::max(info(type).block_elems, 32u);
    if (sweep.next()) check({type, 19, k, {{k, 4, true}, {k, 1, false}, {9, 0, true}}});
  }
}

TEST_F(MlpGpu, EveryActivation) {
  for (std::uint32_t act = 0; act <= 6; ++act) check({DType::f32, 5, 9, {{11, act, true}, {6, act, false}}});
}

TEST_F(MlpGpu, WideLayers) { check({DType::f32, 20, 256, {{256, 4, true}, {255, 4, true}}}); }

// Some drivers end the loops of an invocation after 65535 iterations in total.
TEST_F(MlpGpu, LongLoops) {
  const Target t = target_of(*device_);
  if (t.limits.max_storage_range < 1u << 24)
    return;  // the weights, which no other driver needs to be so large
  for (const std::uint32_t rows : {1u, 4u}) {
    Network net(DType::f32, rows, 1016, {{1016, 4, true}, {1016, 4, true}, {1016, 0, true}});
    run(net, t);
    if (HasFatalFailure()) return;
    Target fused = t;
    fused.form = "mlp_fused";
    run(net, fused);
    if (HasFatalFailure()) return;
  }
  std::vector<Layer> deep(12, Layer{500, 4, true});
  deep.push_back({3, 0, true});
  Network net(DType::f32, 4, 500, deep);
  run(net, t);
}

TEST_F(MlpGpu, RowsFromTheState) {
  for (const std::uint32_t live : {1u, 16u, 41u}) {
    Network net(DType::f32, 70, 12, {{20, 4, true}, {5, 0, true}}, live);
    net.shape.dynamic_rows = true;
    check(net);
  }
}

TEST_F(MlpGpu, HalfActivations) {
  for (const std::uint32_t k : {8u, 9u}) {
    Network net(DType::f16, 11, k, {{20, 4, true}, {7, 0, true}});
    net.shape.x_type = net.shape.y_type = DType::f16;
    check(net);
  }
}

TEST_F(MlpGpu, SlicesAndAFoldedGrid) {
  auto small = make_device({{"max_group_count_x", 2}});
  ASSERT_TRUE(small);
  device_ = std::move(small);
  check({DType::f32, 300, 8, {{16, 4, true}, {4, 0, true}}}, 2);
}

TEST_F(MlpGpu, WhatCannotBeFused) {
  Network net(DType::f32, 4, 8, {{16, 4, true}, {4, 0, true}});
  Target t = target_of(*device_);
  net.shape.layers[0].n = 1u << 14;
  auto choice = choose_mlp(net.shape, t);
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->dispatches.size(), 2u);
  ASSERT_FALSE(choice->refused.empty());
  EXPECT_NE(choice->refused[0].reason.find("shared memory"), std::string::npos) << choice->refused[0].reason;
  net.shape.layers[0].n = 16;
  net.shape.weight_bytes = 0;
  choice = choose_mlp(net.shape, t);
  ASSERT_TRUE(choice);
  ASSERT_FALSE(choice->refused.empty());
  EXPECT_NE(choice->refused[0].reason.find("one buffer"), std::string::npos) << choice->refused[0].reason;
}

}  // namespace
}  // namespace tessera::test
