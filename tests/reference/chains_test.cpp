// Chains of products, computed as devices may, against their bounds: rows, operands and arguments that are
// equal make one error of many, and the bound is still small where they are not.
#include <gmock/gmock.h>

#include <array>
#include <cmath>
#include <random>

#include "reference/bounds.h"
#include "reference/one_op.h"
#include "support/sweep.h"

namespace tessera::test {
namespace {

using Numbers = std::vector<float>;

// act(x w^T + bias) [* (x up^T + up_bias)]
struct Layer {
  std::uint64_t n = 0, k = 0;
  Numbers w = {}, bias = {}, up = {}, up_bias = {};
  Activation act = Activation::none;
};

// What an honest device may do.
struct Device {
  enum class Operands { f32, f16, bytes };
  Operands operands = Operands::f32;
  bool truncates = false;   // sums and conversions
  std::size_t lanes = 1;    // partial sums
  double systematic = 0.0;  // all functions are off by this part of what they may be

  float rounded(double exact) const {
    const auto nearest = static_cast<float>(exact);
    const bool away = truncates && std::fabs(double{nearest}) > std::fabs(exact);
    return away ? std::nextafter(nearest, 0.0f) : nearest;
  }

  float to_f16(float x) const {
    const std::uint16_t bits = f32_to_f16(x);
    const bool away = truncates && std::fabs(f16_to_f32(bits)) > std::fabs(x);
    return f16_to_f32(static_cast<std::uint16_t>(bits - (away ? 1 : 0)));
  }

  Numbers multiplied(Numbers x) const {
    if (operands == Operands::f16)
      for (float& v : x) v = to_f16(v);
    if (operands != Operands::bytes) return x;
    for (std::size_t first = 0; first < x.size(); first += bounds::kDotBlock) {
      const std::span<float> block = std::span(x).subspan(first, bounds::kDotBlock);
      float largest = 0;
      for (const float v : block) largest = std::max(largest, std::fabs(v));
      const float step = largest / 127;
      for (float& v : block) v = step == 0 ? 0 : std::round(v / step) * step;
    }
    return x;
  }

  float dot(const Numbers& x, std::span<const float> w, float bias) const {
    Numbers sums(lanes);
    for (std::size_t i = 0; i < x.size(); ++i) {
      float& sum = sums[i % lanes];
      const float weight = operands == Operands::f16 ? to_f16(w[i]) : w[i];
      sum = rounded(double{x[i]} * double{weight} + double{sum});
    }
    float all = sums[0];
    for (std::size_t lane = 1; lane < lanes; ++lane) all = rounded(double{all} + double{sums[lane]});
    return rounded(double{all} + double{bias});
  }

  float activated(Activation act, float x) const {
    const double z = x;
    if (act == Activation::silu) {
      const auto power = static_cast<float>(std::exp(-z) * (1 + systematic * bounds::exp_relative(z)));
      return rounded(z / double{rounded(1 + double{power})});
    }
    if (act == Activation::gelu_erf) {
      const auto fit = static_cast<float>(std::erf(z / std::sqrt(2.0)) + systematic * bounds::kErf / 2);
      return rounded(0.5 * z * double{rounded(1 + double{fit})});
    }
    return act == Activation::relu ? std::max(x, 0.0f) : x;
  }

  // RMSNorm with a weight of ones.
  Numbers normed(Numbers x) const {
    double squares = 0;
    for (const float v : x) squares += double{v} * v;
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(x.size()));
    const auto factor = static_cast<float>(inverse * (1 + systematic * bounds::kNormUlps * bounds::kUlp));
    for (float& v : x) v = rounded(double{v} * double{factor});
    return x;
  }

  Numbers run(const std::vector<Layer>& layers, Numbers x) const {
    for (const Layer& layer : layers) {
      const Numbers in = multiplied(x);
      x.clear();
      for (std::uint64_t j = 0; j < layer.n; ++j) {
        const auto row = [&](const Numbers& w) { return std::span(w).subspan(j * layer.k, layer.k); };
        float y = activated(layer.act, dot(in, row(layer.w), layer.bias[j]));
        if (!layer.up.empty()) y = rounded(double{y} * double{dot(in, row(layer.up), layer.up_bias[j])});
        x.push_back(y);
      }
    }
    return x;
  }
};

// Which numbers are equal.
enum class Kind { random, one_hot, constant, two_values, equal_rows, nearly_equal_rows, doubled_rows };

struct Case {
  std::uint64_t k = 64, hidden = 1024, n = 3;
  Kind x = Kind::random, first = Kind::random, last = Kind::random;
  bool gated = false, twins = false;  // gate and up the same
  bool cancel = false;                // biases leave a hundredth of the first sums
  bool norm = false;
  std::uint64_t middle = 0;  // width of a third layer between the two
  Activation act = Activation::relu;
  Device device = {};
  std::uint32_t seed = 1;

  bool blocks() const { return device.operands == Device::Operands::bytes; }
  std::string what() const {
    const auto number = [](auto value) { return " " + std::to_string(static_cast<int>(value)); };
    return "k" + number(k) + " hidden" + number(hidden) + " x" + number(x) + " first" + number(first) +
           " last" + number(last) + " gated" + number(gated) + number(twins) + " cancel" + number(cancel) +
           " norm" + number(norm) + " middle" + number(middle) + " act" + number(act) + " operands" +
           number(device.operands) + " truncates" + number(device.truncates) + " lanes" +
           number(device.lanes) + " systematic " + std::to_string(device.systematic) + " seed" + number(seed);
  }
};

// A case's numbers, the reference's results and its bounds.
class Chain {
 public:
  explicit Chain(const Case& c) : c_(c), engine_(c.seed) {
    x_ = row(c.x, c.k);
    const std::uint64_t widths[] = {c.k, c.hidden, c.middle == 0 ? c.n : c.middle, c.n};
    const std::size_t layers = c.middle == 0 ? 2 : 3;
    for (std::size_t l = 0; l < layers; ++l) {
      Layer layer{.n = widths[l + 1], .k = widths[l]};
      layer.w = matrix(l + 1 == layers ? c.last : c.first, layer.n, layer.k);
      layer.bias = layer.up_bias = Numbers(layer.n);
      if (l + 1 < layers) layer.act = c.act;
      if (l == 0 && c.gated) layer.up = c.twins ? layer.w : matrix(c.first, layer.n, layer.k);
      layers_.push_back(std::move(layer));
    }
    if (c.cancel) {
      layers_[0].bias = cancelling(layers_[0].w);
      if (c.gated) layers_[0].up_bias = cancelling(layers_[0].up);
    }
    reference();
  }

  Numbers on_device(const Device& device) const {
    return device.run(layers_, c_.norm ? device.normed(x_) : x_);
  }
  // The largest error of the device, in bounds.
  double excess() const {
    const Numbers found = on_device(c_.device);
    double out = 0;
    for (std::size_t i = 0; i < found.size(); ++i)
      out = std::max(out, std::fabs(double{found[i]} - y_.expected[i]) / y_.bound[i]);
    return out;
  }
  const ReferenceOutput& y() const { return y_; }
  std::vector<Layer>& layers() { return layers_; }

 private:
  float number() { return std::normal_distribution<float>()(engine_); }
  Numbers row(Kind kind, std::uint64_t n) {
    const std::array<float, 2> two{number(), number()};
    Numbers out(n);
    for (float& v : out)
      v = kind == Kind::constant ? two[0] : kind == Kind::two_values ? two[engine_() % 2] : number();
    for (std::uint64_t i = 1; i < n && kind == Kind::one_hot; ++i) out[i] = 0;
    return out;
  }
  Numbers matrix(Kind kind, std::uint64_t n, std::uint64_t k) {
    const bool repeated = kind != Kind::random && kind != Kind::two_values;
    Numbers out = row(kind, repeated ? k : n * k);
    for (float& v : out) v /= std::sqrt(static_cast<float>(k));
    for (std::uint64_t j = 1; j < n && repeated; ++j) {
      Numbers next(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(k));
      if (kind == Kind::nearly_equal_rows) next[j % k] = number() / std::sqrt(static_cast<float>(k));
      if (kind == Kind::doubled_rows)
        for (float& v : next) v = std::ldexp(v, static_cast<int>(j % 8)) * (j % 3 == 0 ? -1.0f : 1.0f);
      out.insert(out.end(), next.begin(), next.end());
    }
    if (!c_.blocks()) return out;
    const auto file = encoded(out);
    decode_row(DType::q8_0, file, out);
    return out;
  }
  static std::vector<std::byte> encoded(const Numbers& w) {
    std::vector<std::byte> file(file_bytes(w.size(), info(DType::q8_0)));
    encode_row(DType::q8_0, w, file);
    return file;
  }
  // Sums with w become a hundredth of their terms' root of squares.
  Numbers cancelling(const Numbers& w) const {
    Numbers out;
    for (std::uint64_t j = 0; j < c_.hidden; ++j) {
      double sum = 0, squares = 0;
      for (std::uint64_t i = 0; i < c_.k; ++i) {
        const double term = double{x_[i]} * double{w[j * c_.k + i]};
        sum += term;
        squares += term * term;
      }
      out.push_back(static_cast<float>(std::sqrt(squares) / 100 - sum));
    }
    return out;
  }

  void reference() {
    Bench b;
    const auto weight = [&](const Numbers& w, std::uint64_t n, std::uint64_t k) {
      return c_.blocks() ? b.weight(DType::q8_0, {n, k}, encoded(w)) : b.weight({n, k}, w);
    };
    OpAttrs attrs;
    std::vector<ValueId> in{b.given({1, c_.k})};
    const ValueId x = in[0], y = b.activation({1, c_.n});
    for (const Layer& layer : layers_) {
      in.push_back(weight(layer.w, layer.n, layer.k));
      in.push_back(b.constant({layer.n}, layer.bias));
      if (c_.middle == 0 && in.size() == 3)
        in.insert(in.end(), {layer.up.empty() ? kNoValue : weight(layer.up, layer.n, layer.k),
                             layer.up.empty() ? kNoValue : b.constant({layer.n}, layer.up_bias)});
      attrs.acts.push_back(layer.act);
    }
    if (c_.middle == 0) {
      attrs.acts.clear();
      attrs.act = c_.act;
      if (c_.device.operands != Device::Operands::f32) attrs.precision = Precision::mixed;
      in.insert(in.end(), {kNoValue, c_.norm ? b.constant({c_.k}, Numbers(c_.k, 1)) : kNoValue});
    }
    b.op(c_.middle == 0 ? OpKind::feed_forward : OpKind::mlp, attrs, in, {y});
    b.write(x, x_);
    y_ = b.run().at(0);
  }

  Case c_;
  std::mt19937 engine_;
  Numbers x_;
  std::vector<Layer> layers_;
  ReferenceOutput y_;
};

const Device kDevices[] = {
    {},
    {.lanes = 8, .systematic = -1},
    {.truncates = true, .systematic = 1},
    {.operands = Device::Operands::f16},
    {.operands = Device::Operands::f16, .truncates = true, .lanes = 8},
    {.operands = Device::Operands::bytes},
};

class ChainOf : public ::testing::TestWithParam<Kind> {
 protected:
  // With x and first weights of every kind.
  void expect_within(Case c) {
    c.last = GetParam();
    for (const Device& device : kDevices)
      for (const Kind x : {Kind::random, Kind::one_hot, Kind::constant, Kind::two_values})
        for (const Kind first : {Kind::random, Kind::constant, Kind::two_values, Kind::equal_rows,
                                 Kind::nearly_equal_rows, Kind::doubled_rows}) {
          if (c.middle != 0 && device.operands != Device::Operands::f32) continue;
          c.device = device;
          c.x = x;
          c.first = first;
          ++c.seed;
          if (sweep_.next()) EXPECT_LE(Chain(c).excess(), 1) << c.what();
        }
  }

 private:
  Sweep sweep_;
};

TEST_P(ChainOf, Plain) {
  expect_within({});
  expect_within({.cancel = true});
}
TEST_P(ChainOf, Gated) {
  expect_within({.gated = true, .act = Activation::silu});
  expect_within({.gated = true, .twins = true, .cancel = true, .act = Activation::silu});
}
TEST_P(ChainOf, WithANorm) { expect_within({.gated = true, .norm = true, .act = Activation::silu}); }
TEST_P(ChainOf, LongFirstSums) { expect_within({.k = 2048, .hidden = 64, .cancel = true}); }
TEST_P(ChainOf, ShortFirstSums) {
  for (const Activation act : {Activation::silu, Activation::gelu_erf})
    expect_within({.k = 32, .hidden = 2048, .n = 2, .cancel = true, .act = act});
}
TEST_P(ChainOf, ThreeLayers) {
  expect_within({.hidden = 512, .cancel = true, .middle = 64, .act = Activation::gelu_erf});
}

// Where no numbers are equal, the bound is a few times what devices are off by, and finds what is missing.
TEST(ChainOfRandomNumbers, HasASmallBound) {
  for (const bool gated : {false, true})
    for (const Device::Operands operands :
         {Device::Operands::f32, Device::Operands::f16, Device::Operands::bytes}) {
      Case c{.k = 256, .hidden = 1024, .n = 32, .gated = gated, .act = Activation::silu};
      c.device.operands = operands;
      Chain chain(c);
      EXPECT_LE(chain.excess(), 1) << c.what();
      double squares = 0, bounds = 0;
      const Numbers found = chain.on_device(c.device);
      for (std::size_t i = 0; i < c.n; ++i) {
        const double error = double{found[i]} - chain.y().expected[i];
        squares += error * error;
        bounds += chain.y().bound[i];
      }
      const double ratio = bounds / static_cast<double>(c.n) / std::sqrt(squares / static_cast<double>(c.n));
      EXPECT_LT(ratio, 1) << c.what();
      // The last elements of x left out.
      const std::uint64_t left_out = c.blocks() ? 32 : 4;
      for (std::uint64_t end = c.k; end <= c.hidden * c.k; end += c.k)
        for (std::uint64_t i = 1; i <= left_out; ++i) chain.layers()[0].w[end - i] = 0;
      EXPECT_GT(chain.excess(), 1) << c.what();
    }
}

INSTANTIATE_TEST_SUITE_P(Weights, ChainOf, ::testing::Values(Kind::random, Kind::constant));

}  // namespace
}  // namespace tessera::test
