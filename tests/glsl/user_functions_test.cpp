// A user's functions against the built-in forms of the same, and against plain loops in double.
#include "user_fixture.h"

namespace tessera::test {
namespace {

using Score =
    std::function<double(double s, std::uint64_t b, std::uint64_t h, std::uint64_t q, std::uint64_t k)>;
using Mask = std::function<bool(std::uint64_t b, std::uint64_t h, std::uint64_t q, std::uint64_t k)>;

// By plain loops. `bound`: of one element's error, from the largest |score| and |v|: scores are off by d + 8
// roundings of what they are sums of, and 8 of the user's; exp2 by 3 + 2|x| ulp; the sums by n roundings.
struct Expected64 {
  std::vector<double> y;
  double bound = 0;
};
Expected64 expected(const Sizes& s, const std::vector<Tensor>& in, const Score& score, const Mask& mask) {
  const std::vector<float> q = floats_of(in[0]), k = floats_of(in[1]), v = floats_of(in[2]);
  Expected64 out;
  double largest = 1;
  const double scale = 1 / std::sqrt(double(s.dim));
  for (std::uint64_t b = 0; b < s.batch; ++b)
    for (std::uint64_t h = 0; h < s.heads; ++h)
      for (std::uint64_t i = 0; i < s.rows; ++i) {
        const float* row = &q[((b * s.heads + h) * s.rows + i) * s.dim];
        const std::uint64_t first = (b * s.kv_heads + h / (s.heads / s.kv_heads)) * s.keys;
        std::vector<double> scores(s.keys), y(s.dim);
        double most = -1e300, total = 0;
        for (std::uint64_t j = 0; j < s.keys; ++j) {
          double dot = 0;
          for (std::uint64_t d = 0; d < s.dim; ++d) dot += double(row[d]) * k[(first + j) * s.dim + d];
          scores[j] = mask(b, h, i, j) ? score(dot * scale, b, h, i, j) : -1e300;
          if (scores[j] > -1e299) largest = std::max({largest, std::abs(scores[j]), std::abs(dot * scale)});
          most = std::max(most, scores[j]);
        }
        for (std::uint64_t j = 0; j < s.keys && most > -1e299; ++j) {
          const double p = std::exp(scores[j] - most);
          total += p;
          for (std::uint64_t d = 0; d < s.dim; ++d) y[d] += p * v[(first + j) * s.dim + d];
        }
        for (double value : y) out.y.push_back(total > 0 ? value / total : 0);
      }
  const double sums = double(s.dim) * scale + largest, unit = 0x1p-24;
  out.bound =
      2 * ((double(s.dim) + 16) * unit * sums + (3 + 2 * 1.45 * largest) * 2 * unit + double(s.keys) * unit);
  return out;
}

std::string place(const Sizes& s, bool as_gpu) {
  return std::to_string(s.rows) + " rows, " + std::to_string(s.keys) + " keys, heads " +
         std::to_string(s.heads) + "/" + std::to_string(s.kv_heads) + (as_gpu ? ", as for a GPU" : "");
}

void expect_near(const std::vector<float>& found, const std::vector<double>& wanted, double bound,
                 const std::string& what) {
  ASSERT_EQ(found.size(), wanted.size()) << what;
  for (std::size_t i = 0; i < found.size(); ++i)
    ASSERT_LE(std::abs(found[i] - wanted[i]), bound) << what << ": element " << i;
}

struct Case {
  UserGlsl user;
  std::function<Score(const Sizes&)> score = [](const Sizes&) -> Score {
    return [](double s, auto...) { return s; };
  };
  std::function<Mask(const Sizes&)> mask = [](const Sizes&) -> Mask { return [](auto...) { return true; }; };
  std::function<std::vector<Tensor>(const Sizes&)> buffers = [](const Sizes&) {
    return std::vector<Tensor>{};
  };
  // The built-in form of the same.
  bool one_sequence = false;  // is all it takes
  std::vector<std::string> attributes = {};
  std::function<std::vector<Tensor>(const Sizes&)> built_in = [](const Sizes&) {
    return std::vector<Tensor>{};
  };
};

std::vector<Tensor> with(std::vector<Tensor> inputs, std::vector<Tensor> more) {
  for (Tensor& t : more) inputs.push_back(std::move(t));
  return inputs;
}

class Forms : public UserFunctions {
 protected:
  // Over all sizes, on every form of the device.
  void each(const std::function<void(const Context&, const Sizes&, const std::string&)>& check) {
    for (const bool as_gpu : {false, true}) {
      const Context on = context(as_gpu);
      ASSERT_NE(on.get(), nullptr);
      for (const Sizes& s : kSizes) {
        check(on, s, place(s, as_gpu));
        if (HasFatalFailure()) return;
      }
    }
  }
  // The functions, and the built-in form, against loops.
  void compare(const Case& c) {
    each([&](const Context& on, const Sizes& s, const std::string& what) {
      if (c.one_sequence && s.batch != 1) return;
      const Expected64 wanted = expected(s, qkv(s), c.score(s), c.mask(s));
      const auto found = run(on, with(qkv(s), c.buffers(s)), c.user);
      const auto built = run(on, with(qkv(s), c.built_in(s)), {}, c.attributes);
      ASSERT_EQ(found.size(), 1u);
      ASSERT_EQ(built.size(), 1u);
      expect_near(floats_of(found[0]), wanted.y, wanted.bound, what);
      expect_near(floats_of(built[0]), wanted.y, wanted.bound, what + ", built in");
    });
  }
  // A mask leaves what the same as a tensor does, bit by bit: tiles that are left out change nothing.
  void compare_bits(const Case& c) {
    each([&](const Context& on, const Sizes& s, const std::string& what) {
      const Mask mask = c.mask(s);
      std::vector<std::uint8_t> seen;
      for (std::uint64_t b = 0; b < s.batch; ++b)
        for (std::uint64_t h = 0; h < s.heads; ++h)
          for (std::uint64_t i = 0; i < s.rows; ++i)
            for (std::uint64_t j = 0; j < s.keys; ++j) seen.push_back(mask(b, h, i, j));
      const Tensor dense = tensor_of("attn_mask", "BOOL", {s.batch, s.heads, s.rows, s.keys}, seen);
      const auto found = run(on, with(qkv(s), c.buffers(s)), c.user, {}, {"lse"});
      const auto built = run(on, with(qkv(s), {dense}), {}, {}, {"lse"});
      ASSERT_EQ(found.size(), 2u);
      ASSERT_EQ(built.size(), 2u);
      EXPECT_EQ(found[0].data, built[0].data) << what;
      EXPECT_EQ(found[1].data, built[1].data) << what << ": lse";
    });
  }
};

// Of row i and key j the same position, where there are as many of one as of the other.
std::vector<Tensor> shift(const Sizes& s) {
  return {tensor_of("user.shift", "I32", {1},
                    std::vector<std::int32_t>{static_cast<std::int32_t>(s.keys - s.rows)})};
}
double distance(const Sizes& s, std::uint64_t q, std::uint64_t k) {
  return double(q) + double(s.keys) - double(s.rows) - double(k);
}

TEST_F(Forms, Alibi) {
  compare({.user = {"float score(float s, uint b, uint h, uint q, uint k) {\n"
                    "  return s - exp2(-float(h + 1)) * abs(float(int(q) + shift[0] - int(k)));\n}",
                    ""},
           .score = [](const Sizes& s) -> Score {
             return [s](double x, auto, std::uint64_t h, std::uint64_t q, std::uint64_t k) {
               return x - std::exp2(-double(h + 1)) * std::abs(distance(s, q, k));
             };
           },
           .buffers = shift,
           .built_in = [](const Sizes& s) -> std::vector<Tensor> {
             std::vector<float> slopes;
             for (std::uint64_t h = 0; h < s.heads; ++h)
               slopes.push_back(std::exp2(-static_cast<float>(h + 1)));
             return {tensor_of("alibi_slopes", "F32", {s.heads}, slopes)};
           }});
}

TEST_F(Forms, SoftCap) {
  compare(
      {.user = {"const float cap = 2;\n"
                "float curve(float x) { float t = exp(2 * x); return (t - 1) / (t + 1); }\n"
                "float score(float s, uint b, uint h, uint q, uint k) { return cap * curve(s / cap); }",
                ""},
       .score = [](const Sizes&) -> Score { return [](double x, auto...) { return 2 * std::tanh(x / 2); }; },
       .attributes = {"softcap=2"}});
}

TEST_F(Forms, RelativeBias) {
  const auto table = [](const Sizes& s) {
    std::vector<float> values;
    for (std::uint64_t i = 0; i < s.rows + s.keys; ++i)
      values.push_back(static_cast<float>(std::sin(static_cast<double>(i))));
    return values;
  };
  compare(
      {.user = {"float score(float s, uint b, uint h, uint q, uint k) { return s + table[q + last[0] - k]; }",
                ""},
       .score = [=](const Sizes& s) -> Score {
         return [values = table(s), s](double x, auto, auto, std::uint64_t q, std::uint64_t k) {
           return x + values[q + s.keys - 1 - k];
         };
       },
       .buffers = [=](const Sizes& s) -> std::vector<Tensor> {
         return {tensor_of("user.table", "F32", {s.rows + s.keys}, table(s)),
                 tensor_of("user.last", "U32", {1},
                           std::vector<std::uint32_t>{static_cast<std::uint32_t>(s.keys - 1)})};
       },
       .built_in = [=](const Sizes& s) -> std::vector<Tensor> {
         const std::vector<float> values = table(s);
         std::vector<float> bias;
         for (std::uint64_t q = 0; q < s.rows; ++q)
           for (std::uint64_t k = 0; k < s.keys; ++k) bias.push_back(values[q + s.keys - 1 - k]);
         return {tensor_of("bias", "F32", {s.rows, s.keys}, bias)};
       }});
}

const Case kWindow{.user = {"",
                            "bool mask(uint b, uint h, uint q, uint k) {\n"
                            "  int back = int(q) + shift[0] - int(k);\n"
                            "  return back >= 0 && back <= 11;\n}"},
                   .mask = [](const Sizes& s) -> Mask {
                     return [s](auto, auto, std::uint64_t q, std::uint64_t k) {
                       return distance(s, q, k) >= 0 && distance(s, q, k) <= 11;
                     };
                   },
                   .buffers = shift,
                   .attributes = {"causal=bottom_right", "window_left=11"}};
TEST_F(Forms, SlidingWindow) { compare(kWindow); }
TEST_F(Forms, SlidingWindowInBits) { compare_bits(kWindow); }

std::uint32_t document_of(std::uint64_t i, std::uint64_t n) { return static_cast<std::uint32_t>(3 * i / n); }
TEST_F(Forms, DocumentsInBits) {
  const auto ids = [](const char* name, std::uint64_t n) {
    std::vector<std::uint32_t> values;
    for (std::uint64_t i = 0; i < n; ++i) values.push_back(document_of(i, n));
    return tensor_of(name, "U32", {n}, values);
  };
  compare_bits({.user = {"", "bool mask(uint b, uint h, uint q, uint k) { return rows[q] == keys[k]; }"},
                .mask = [](const Sizes& s) -> Mask {
                  return [s](auto, auto, std::uint64_t q, std::uint64_t k) {
                    return document_of(q, s.rows) == document_of(k, s.keys);
                  };
                },
                .buffers = [=](const Sizes& s) -> std::vector<Tensor> {
                  return {ids("user.rows", s.rows), ids("user.keys", s.keys)};
                }});
}

TEST_F(Forms, Documents) {
  const auto starts = [](std::uint64_t n, std::vector<std::int32_t>& out) {
    for (std::uint32_t d = 0; d <= 3; ++d) {
      std::uint64_t first = 0;
      while (first < n && document_of(first, n) < d) ++first;
      out.push_back(static_cast<std::int32_t>(first));
    }
  };
  compare({.user = {"",
                    "bool mask(uint b, uint h, uint q, uint k) {\n"
                    "  return 3 * q / size[0] == 3 * k / size[1];\n}"},
           .mask = [](const Sizes& s) -> Mask {
             return [s](auto, auto, std::uint64_t q, std::uint64_t k) {
               return document_of(q, s.rows) == document_of(k, s.keys);
             };
           },
           .buffers = [](const Sizes& s) -> std::vector<Tensor> {
             return {tensor_of("user.size", "U32", {2},
                               std::vector<std::uint32_t>{static_cast<std::uint32_t>(s.rows),
                                                          static_cast<std::uint32_t>(s.keys)})};
           },
           .one_sequence = true,
           .built_in = [=](const Sizes& s) -> std::vector<Tensor> {
             std::vector<std::int32_t> first;
             starts(s.rows, first);
             starts(s.keys, first);
             return {tensor_of("documents", "I32", {2, 4}, first)};
           }});
}

TEST_F(Forms, RelativeBiasByDistance) {
  constexpr std::uint64_t kMost = 4;
  const auto table = [](const Sizes& s) {
    return floats_of(random_tensor("table", "F32", {2 * kMost + 1, s.heads}, 9));
  };
  compare(
      {.user = {"float score(float s, uint b, uint h, uint q, uint k) {\n"
                "  int away = clamp(int(k) - int(q) - shift[0], -4, 4) + 4;\n"
                "  return s + table[away * shift[1] + int(h)];\n}",
                ""},
       .score = [=](const Sizes& s) -> Score {
         return [s, values = table(s)](double x, auto, std::uint64_t h, std::uint64_t q, std::uint64_t k) {
           const double away = std::clamp(-distance(s, q, k), -double(kMost), double(kMost)) + double(kMost);
           return x + values[static_cast<std::uint64_t>(away) * s.heads + h];
         };
       },
       .buffers = [=](const Sizes& s) -> std::vector<Tensor> {
         return {tensor_of("user.table", "F32", {2 * kMost + 1, s.heads}, table(s)),
                 tensor_of("user.shift", "I32", {2},
                           std::vector<std::int32_t>{static_cast<std::int32_t>(s.keys - s.rows),
                                                     static_cast<std::int32_t>(s.heads)})};
       },
       .attributes = {"relative=distance"},
       .built_in = [=](const Sizes& s) -> std::vector<Tensor> {
         return {tensor_of("relative_bias", "F32", {2 * kMost + 1, s.heads}, table(s))};
       }});
}

TEST_F(Forms, MaskOfBatchAndHeadInBits) {
  compare_bits(
      {.user = {"", "bool mask(uint b, uint h, uint q, uint k) { return (b + 2 * h + q + k) % 3 != 0; }"},
       .mask = [](const Sizes&) -> Mask {
         return [](std::uint64_t b, std::uint64_t h, std::uint64_t q, std::uint64_t k) {
           return (b + 2 * h + q + k) % 3 != 0;
         };
       }});
}

TEST_F(Forms, NothingIsSeen) {
  compare({.user = {"", "bool mask(uint b, uint h, uint q, uint k) { return false; }"},
           .mask = [](const Sizes&) -> Mask { return [](auto...) { return false; }; },
           .built_in = [](const Sizes& s) -> std::vector<Tensor> {
             return {tensor_of("attn_mask", "BOOL", {1, s.keys}, std::vector<std::uint8_t>(s.keys))};
           }});
}

// Tiles that a mask hides wholly are not gone through: their keys are NaN.
TEST_F(UserFunctions, LeaveHiddenTilesOut) {
  const Sizes s{1, 2, 1, 80, 256, 16};
  const UserGlsl user{"", "bool mask(uint b, uint h, uint q, uint k) { return k < 64 || k >= 192; }"};
  for (const bool as_gpu : {false, true}) {
    const Context on = context(as_gpu);
    std::vector<Tensor> inputs = qkv(s);
    for (Tensor* t : {&inputs[1], &inputs[2]})
      std::memset(t->data.data() + 64 * s.dim * 4, 0xff, 128 * s.dim * 4);
    const auto found = run(on, inputs, user);
    ASSERT_EQ(found.size(), 1u);
    std::vector<Tensor> finite = qkv(s);
    const Expected64 wanted = expected(
        s, finite, [](double x, auto...) { return x; },
        [](auto, auto, auto, std::uint64_t k) { return k < 64 || k >= 192; });
    expect_near(floats_of(found[0]), wanted.y, wanted.bound, place(s, as_gpu));
    EXPECT_EQ(kernels(on, inputs, user).front(), "mask_tiles");
  }
}

// One row over a long cache leaves keys out that its mask hides, but for those next to keys that it sees;
// whatever the mask's text is like.
TEST_F(UserFunctions, FewRowsReadWhatTheySee) {
  const Sizes s{1, 4, 2, 1, 1000, 16};
  const std::string begin = "bool mask(uint b, uint h, uint q, uint k) { ",
                    loop = "for (int i = 0; i < 2; ++i) if (k < 840) return false; ",
                    end = "return (k >= 960 || k == 850) && (h < 2 || k != 970); }";
  const auto mask = [](auto, std::uint64_t h, auto, std::uint64_t k) {
    return (k >= 960 || k == 850) && (h < 2 || k != 970);
  };
  for (const bool as_gpu : {false, true}) {
    const Context on = context(as_gpu);
    std::vector<Tensor> inputs = qkv(s);
    for (Tensor* t : {&inputs[1], &inputs[2]})
      for (std::uint64_t h = 0; h < s.kv_heads; ++h)
        std::memset(t->data.data() + h * s.keys * s.dim * 4, 0xff, 700 * s.dim * 4);
    const Expected64 wanted = expected(
        s, qkv(s), [](double x, auto...) { return x; }, mask);
    for (const std::string& text :
         {begin + end, begin + loop + end, begin + "//" + std::string(600, '-') + "\n" + end}) {
      const auto found = run(on, inputs, {"", text});
      ASSERT_EQ(found.size(), 1u);
      expect_near(floats_of(found[0]), wanted.y, wanted.bound, place(s, as_gpu) + ": " + text);
    }
  }
}

TEST_F(UserFunctions, PayOnlyWhereTheyAre) {
  const Context on = context(false);
  const std::vector<Tensor> inputs = qkv({1, 1, 1, 16, 16, 16});
  EXPECT_EQ(kernels(on, inputs, {}).size(), 1u);
  EXPECT_EQ(
      kernels(on, inputs, {"float score(float s, uint b, uint h, uint q, uint k) { return s; }", ""}).size(),
      1u);
}

const UserGlsl kBoth{
    "float score(float s, uint b, uint h, uint q, uint k) { return s + 0.25 * float(k % 3); }",
    "bool mask(uint b, uint h, uint q, uint k) { return k % 5 != 1; }"};
// The same as tensors.
std::vector<Tensor> dense_of_both(std::uint64_t keys) {
  std::vector<float> bias;
  std::vector<std::uint8_t> seen;
  for (std::uint64_t k = 0; k < keys; ++k) {
    bias.push_back(0.25f * static_cast<float>(k % 3));
    seen.push_back(k % 5 != 1);
  }
  return {tensor_of("bias", "F32", {1, keys}, bias), tensor_of("attn_mask", "BOOL", {1, keys}, seen)};
}

// Beside types, caches, sinks and outputs of scores, whose kernels have the functions too.
TEST_F(UserFunctions, GoWithOtherOptions) {
  const Sizes s{1, 4, 2, 20, 37, 32};
  const std::vector<Tensor> dense = dense_of_both(s.keys);
  for (const bool as_gpu : {false, true}) {
    const Context on = context(as_gpu);
    for (const std::string& of : std::vector<std::string>{"F32 0", "F32 2", "F16 3"}) {
      const std::string type = of.substr(0, 3), mode = of.substr(4);
      std::vector<Tensor> inputs = with(qkv(s, type), {random_tensor("sinks", "F32", {s.heads}, 5)});
      const std::vector<std::string> attributes{"qk_matmul_output_mode=" + mode, "causal=bottom_right"};
      const std::vector<std::string> outputs{"qk_matmul_output", "lse"};
      const auto found = run(on, inputs, kBoth, attributes, outputs);
      const auto built = run(on, with(inputs, dense), {}, attributes, outputs);
      ASSERT_EQ(found.size(), 3u);
      ASSERT_EQ(built.size(), 3u);
      // Each is off by 50 roundings of sums up to 8 at most, and twice that as a weight's share.
      for (std::size_t t = 0; t < 3; ++t) {
        const std::vector<float> a = floats_of(found[t]), b = floats_of(built[t]);
        for (std::size_t i = 0; i < a.size(); ++i)
          ASSERT_TRUE(a[i] == b[i] || std::abs(a[i] - b[i]) <= 1e-4f)
              << found[t].name << ", mode " << mode << ", " << type << ": " << a[i] << ", built in " << b[i];
      }
    }
  }
}

// Beside what attention adds to scores and leaves out of them by itself.
TEST_F(UserFunctions, GoWithOtherScoresAndStructures) {
  const Sizes s{1, 4, 2, 24, 40, 16};
  const std::vector<Tensor> dense = dense_of_both(s.keys);
  struct Option {
    std::vector<Tensor> inputs;
    std::vector<std::string> attributes;
  };
  const Tensor columns = tensor_of("block_columns", "I32", {6}, std::vector<std::int32_t>{0, 2, 4, 1, 3, 4});
  const Option options[] = {
      {{random_tensor("relative_bias", "F32", {9, s.heads}, 6)}, {}},
      {{random_tensor("score_vector", "F32", {s.heads, s.dim}, 7)}, {"score=additive"}},
      {{}, {"causal=bottom_right", "prefix_length=21"}},
      {{}, {"top_k=7", "causal=bottom_right"}},
      {{tensor_of("block_rows", "I32", {4}, std::vector<std::int32_t>{0, 2, 3, 6}), columns},
       {"q_block=8", "k_block=8", "causal=bottom_right"}},
      {{tensor_of("block_rows", "I32", {4}, std::vector<std::int32_t>{0, 3, 3, 6}), columns},
       {"q_block=8", "k_block=8", "top_k=5"}}};
  for (const bool as_gpu : {false, true}) {
    const Context on = context(as_gpu);
    for (std::size_t i = 0; i < std::size(options); ++i) {
      const std::vector<Tensor> inputs = with(qkv(s), options[i].inputs);
      const auto found = run(on, inputs, kBoth, options[i].attributes);
      const auto built = run(on, with(inputs, dense), {}, options[i].attributes);
      ASSERT_EQ(found.size(), 1u);
      ASSERT_EQ(built.size(), 1u);
      // 50 roundings of sums up to 8, and twice that as a weight's share.
      const std::vector<float> a = floats_of(found[0]), b = floats_of(built[0]);
      for (std::size_t e = 0; e < a.size(); ++e)
        ASSERT_LE(std::abs(a[e] - b[e]), 1e-4f) << "option " << i << (as_gpu ? ", as for a GPU" : "");
    }
  }
}

// An index past the end of a buffer is its last element.
TEST_F(UserFunctions, ReadNothingPastABuffer) {
  const Sizes s{1, 1, 1, 9, 20, 16};
  const std::vector<Tensor> buffer{tensor_of("user.few", "F32", {2}, std::vector<float>{0.5f, 3})};
  for (const bool as_gpu : {false, true}) {
    const Context on = context(as_gpu);
    const auto scaled = [&](const std::string& index) {
      return run(
          on, with(qkv(s), buffer),
          {"float score(float s, uint b, uint h, uint q, uint k) { return s * few[" + index + "]; }", ""});
    };
    const auto past = scaled("k * 100000000"), last = scaled("k == 0 ? 0 : 1");
    ASSERT_EQ(past.size(), 1u);
    ASSERT_EQ(last.size(), 1u);
    EXPECT_EQ(past[0].data, last[0].data);
  }
}

}  // namespace
}  // namespace tessera::test
