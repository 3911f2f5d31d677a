// Linear attention on the device against the reference and its bounds.
#include <cmath>
#include <random>
#include <sstream>

#include "interface/linear_attention.h"
#include "kernels/target.h"
#include "reference/reference.h"
#include "schedule/gpu_walker.h"
#include "support/gpu_fixture.h"
#include "support/refusal.h"
#include "support/sweep.h"

namespace tessera::test {
namespace {

struct LinearCase {
  LinearAttentionAttrs attrs;
  DType type = DType::f32;  // of q, k, v and y
  bool past = false, present = false, output = true;
  bool in_place = false;  // of the state
};

std::string text_of(const LinearCase& c) {
  const LinearAttentionAttrs& a = c.attrs;
  std::ostringstream text;
  text << name(a.rule) << " batch " << a.batch << " len " << a.len << " heads " << a.heads << "/"
       << a.kv_heads << " k_dim " << a.k_dim << " v_dim " << a.v_dim << " map " << name(a.map) << " type "
       << info(c.type).name << (a.decay_by_dim ? " by_dim" : "") << (a.beta_by_head ? " by_head" : "")
       << (a.causal ? "" : " full") << (a.normalise ? " normalised" : "")
       << (a.shared_keys ? " shared_keys" : "") << (c.past ? " past" : "") << (c.present ? " present" : "")
       << (c.output ? "" : " no output") << (c.in_place ? " in place" : "");
  return text.str();
}

// A program of one linear attention. All but the results are outputs, which a host may write.
struct LinearProgram {
  explicit LinearProgram(const LinearCase& c) {
    const LinearAttentionAttrs& a = c.attrs;
    program->state = add("state", Storage::input, DType::u32, {8});
    const std::uint64_t rows = std::uint64_t{a.batch} * a.len, kv = a.kv_heads;
    const std::vector<std::uint64_t> state{a.batch, kv, a.k_dim, a.v_dim}, normaliser{a.batch, kv, a.k_dim};
    std::vector<ValueId> in(static_cast<std::size_t>(LinearIn::count), kNoValue), out(3, kNoValue);
    const auto put = [&](LinearIn which, const char* name, DType type, std::vector<std::uint64_t> shape) {
      given.push_back(in[static_cast<std::size_t>(which)] =
                          add(name, Storage::output, type, std::move(shape)));
    };
    if (c.output) put(LinearIn::q, "q", c.type, {rows, std::uint64_t{a.heads} * a.k_dim});
    put(LinearIn::k, "k", c.type, {a.shared_keys ? a.len : rows, kv * a.k_dim});
    put(LinearIn::v, "v", c.type, {rows, kv * a.v_dim});
    if (c.past) put(LinearIn::past, "past", DType::f32, state);
    if (is_gated(a.rule))
      put(LinearIn::decay, "decay", DType::f32, {rows, kv * (a.decay_by_dim ? a.k_dim : 1)});
    if (is_delta(a.rule)) put(LinearIn::beta, "beta", DType::f32, {rows, a.beta_by_head ? kv : 1});
    if (a.normalise && c.past) put(LinearIn::past_normaliser, "past_z", DType::f32, normaliser);
    if (c.output) out[0] = add("y", Storage::output, c.type, {rows, std::uint64_t{a.heads} * a.v_dim});
    if (c.present)
      out[1] = c.in_place ? in[static_cast<std::size_t>(LinearIn::past)]
                          : add("present", Storage::output, DType::f32, state);
    if (c.present && a.normalise) out[2] = add("z", Storage::output, DType::f32, normaliser);
    OpAttrs attrs;
    attrs.linear = a;
    program->graphs.push_back({"g", 1, {{OpKind::linear_attention, "linear", attrs, in, out}}});
  }

  ValueId add(const char* name, Storage storage, DType type, std::vector<std::uint64_t> shape) {
    Value v;
    v.name = name;
    v.storage = storage;
    v.dtype = type;
    v.shape = std::move(shape);
    program->values.push_back(std::move(v));
    return static_cast<ValueId>(program->values.size() - 1);
  }

  std::shared_ptr<Program> program = std::make_shared<Program>();
  std::vector<ValueId> given;
};

// Keys of length 1 (of delta rules), decays from none to a state that is gone at once, betas up to 1.
std::vector<float> numbers(const Value& value, const LinearAttentionAttrs& a, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> out(value.elems());
  for (float& x : out) {
    x = uniform(engine);
    if (value.name == "decay") x = x > 0.97f ? -150 : x > 0.9f ? 0 : -1.5f * (1 + x) * (1 + x) * (1 + x) / 8;
    if (value.name == "beta") x = (1 + x) / 2;
    if (value.name == "past_z") x = 1 + x;
    // Products that do not cancel: a denominator near 0 has no bound.
    if (a.normalise && a.map == FeatureMap::none && (value.name == "q" || value.name == "k")) x = 1.1f + x;
  }
  for (std::size_t first = 0; value.name == "k" && is_delta(a.rule) && first < out.size(); first += a.k_dim) {
    float squares = 0;
    for (std::size_t i = 0; i < a.k_dim; ++i) squares += out[first + i] * out[first + i];
    for (std::size_t i = 0; i < a.k_dim; ++i) out[first + i] /= std::sqrt(squares);
  }
  return out;
}

class LinearAttentionGpu : public GpuTest {
 protected:
  void check(const LinearCase& c, Device* on = nullptr) {
    SCOPED_TRACE(text_of(c));
    const LinearProgram made(c);
    const auto gpu = take(GpuWalker::create(on != nullptr ? *on : *device_, made.program, {}));
    const auto reference = take(ReferenceWalker::create(made.program));
    ASSERT_TRUE(gpu && reference);
    for (Walker* walker : {static_cast<Walker*>(gpu.get()), static_cast<Walker*>(reference.get())})
      for (const ValueId id : made.given) {
        const Value& value = made.program->values[id];
        std::vector<std::byte> bytes(value_bytes(value));
        encode_row(value.dtype, numbers(value, c.attrs, id), bytes);
        expect_ok(walker->write(id, 0, bytes));
      }
    expect_ok(gpu->run(0));
    const auto expected = take(reference->run_op(0, 0, true));
    EXPECT_EQ(expected.size(), std::size_t{c.output} + c.present + (c.present && c.attrs.normalise));
    for (const ReferenceOutput& output : expected) compare(*gpu, output);
  }

 private:
  void compare(Walker& gpu, const ReferenceOutput& expected) {
    const Value& value = gpu.program().values[expected.value];
    std::vector<std::byte> bytes(value_bytes(value));
    expect_ok(gpu.read(expected.value, 0, bytes));
    std::vector<float> found(value.elems());
    decode_row(value.dtype, bytes, found);
    ASSERT_EQ(expected.expected.size(), found.size());
    int wrong = 0;
    double size = 0, loose = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      const std::uint64_t at = expected.element(i);
      size = std::max(size, std::abs(expected.expected[i]));
      loose = std::max(loose, expected.bound[i]);
      if (!expected.accepts(i, double{found[at]}) && ++wrong <= 3)
        ADD_FAILURE() << value.name << "[" << at << "] is " << found[at] << ", not " << expected.expected[i]
                      << " +- " << expected.bound[i];
    }
    // A bound as large as the values would find nothing. Errors of a delta rule add up from row to row.
    const double rows = gpu.program().graphs[0].ops[0].attrs.linear.len;
    EXPECT_LE(loose, 0.05 * std::max(1.0, rows / 100) * size + 1e-30) << value.name;
  }
};

LinearCase of_rule(UpdateRule rule, std::uint32_t len, std::uint32_t k_dim, std::uint32_t v_dim) {
  LinearCase c;
  c.attrs.rule = rule;
  c.attrs.len = len;
  c.attrs.k_dim = k_dim;
  c.attrs.v_dim = v_dim;
  c.attrs.scale = 0.3f;
  c.present = true;
  return c;
}

constexpr UpdateRule kRules[] = {UpdateRule::linear, UpdateRule::gated, UpdateRule::delta,
                                 UpdateRule::gated_delta};

class LinearRules : public LinearAttentionGpu, public testing::WithParamInterface<UpdateRule> {};

// Chunks end before, at and behind the last row; tiles of v likewise.
TEST_P(LinearRules, AwkwardSizes) {
  Sweep sweep;
  std::uint32_t seen = 0;
  for (const std::uint32_t len : {1u, 2u, 15u, 16u, 17u, 33u, 67u})
    for (const auto& [k_dim, v_dim] :
         {std::pair(1u, 1u), {2u, 3u}, {5u, 33u}, {16u, 7u}, {31u, 16u}, {64u, 37u}, {67u, 64u}}) {
      const bool more = ++seen % 2 == 0;
      if (!sweep.next()) continue;
      LinearCase c = of_rule(GetParam(), len, k_dim, v_dim);
      c.attrs.decay_by_dim = more;
      c.attrs.beta_by_head = more;
      c.attrs.kv_heads = more ? 2 : 1;
      c.attrs.heads = more ? 4 : 1;
      c.attrs.batch = more ? 2 : 1;
      c.past = more;
      check(c);
    }
}

TEST_P(LinearRules, HeadsAndBatches) {
  for (const auto& [heads, kv_heads] : {std::pair(1u, 1u), {3u, 3u}, {6u, 2u}, {5u, 1u}})
    for (const std::uint32_t batch : {1u, 3u})
      for (const bool wide : {false, true}) {
        LinearCase c = of_rule(GetParam(), 19, 8, wide ? 8 : 9);
        c.attrs.heads = heads;
        c.attrs.kv_heads = kv_heads;
        c.attrs.batch = batch;
        c.attrs.decay_by_dim = c.attrs.beta_by_head = wide;
        c.past = true;
        check(c);
      }
}

TEST_P(LinearRules, WithAndWithoutStates) {
  for (const bool past : {false, true})
    for (const bool present : {false, true})
      for (const std::uint32_t len : {1u, 20u}) {
        LinearCase c = of_rule(GetParam(), len, 12, 20);
        c.past = past;
        c.present = present;
        check(c);
        c.in_place = past && present;
        if (c.in_place) check(c);
        c.output = false;
        if (present) check(c);
      }
}

TEST_P(LinearRules, HalfTypes) {
  for (const DType type : {DType::f16, DType::bf16})
    for (const std::uint32_t v_dim : {1u, 3u, 6u, 8u, 40u}) {
      LinearCase c = of_rule(GetParam(), 18, v_dim == 8 ? 8 : 7, v_dim);
      c.attrs.heads = c.attrs.kv_heads = 3;
      c.attrs.decay_by_dim = v_dim > 3;
      c.type = type;
      c.past = true;
      check(c);
    }
}

TEST_P(LinearRules, LargestHeads) {
  for (const std::uint32_t len : {1u, 18u}) {
    LinearCase c = of_rule(GetParam(), len, kMaxStateRows, 5);
    c.attrs.decay_by_dim = true;
    c.past = true;
    check(c);
    c.attrs.k_dim = 128;
    c.attrs.v_dim = 128;
    check(c);
  }
}

// Dispatch after dispatch, and as little shared memory as a device may have.
TEST_P(LinearRules, LoweredLimits) {
  const auto few_loops = make_device({{"max_loop_iterations", 1024}});
  const auto little_shared = make_device({{"max_shared_bytes", 16384}});
  const auto small =
      make_device({{"max_group_invocations", 128}, {"max_group_count_x", 3}, {"max_group_count_y", 2}});
  ASSERT_TRUE(few_loops && little_shared && small);
  for (Device* device : {few_loops.get(), little_shared.get(), small.get()})
    for (const bool present : {false, true}) {
      LinearCase c = of_rule(GetParam(), 70, 32, 24);
      c.attrs.heads = c.attrs.kv_heads = 2;
      c.attrs.decay_by_dim = present;
      c.present = present;
      check(c, device);
      c.attrs.k_dim = 129;
      c.attrs.len = 21;
      check(c, device);
    }
}

TEST_P(LinearRules, LongSequences) {
  LinearCase c = of_rule(GetParam(), 1500, 8, 4);
  check(c);
  c.present = false;
  check(c);
  // As many rows a dispatch as a driver that ends loops allows.
  c = of_rule(GetParam(), 1100, 96, 8);
  c.attrs.heads = 3;
  c.attrs.decay_by_dim = true;
  check(c);
}

INSTANTIATE_TEST_SUITE_P(Rules, LinearRules, testing::ValuesIn(kRules),
                         [](const auto& i) { return std::string(name(i.param)); });

TEST_F(LinearAttentionGpu, FeatureMapsAndNormalisers) {
  for (const FeatureMap map : {FeatureMap::none, FeatureMap::elu_plus_one, FeatureMap::relu, FeatureMap::exp})
    for (const bool normalise : {false, true})
      for (const bool causal : {false, true})
        for (const std::uint32_t len : {1u, 17u, 80u}) {
          LinearCase c = of_rule(UpdateRule::linear, len, 13, 18);
          c.attrs.heads = 4;
          c.attrs.kv_heads = 2;
          c.attrs.map = map;
          c.attrs.normalise = normalise;
          c.attrs.epsilon = 0.25f;
          c.attrs.causal = causal;
          c.past = len != 17;
          check(c);
          c.present = false;
          check(c);
        }
}

TEST_F(LinearAttentionGpu, NormaliserOfADecayedState) {
  for (const bool by_dim : {false, true}) {
    LinearCase c = of_rule(UpdateRule::gated, 40, 9, 34);
    c.attrs.map = FeatureMap::elu_plus_one;
    c.attrs.normalise = c.past = true;
    c.attrs.decay_by_dim = by_dim;
    check(c);
  }
}

// The normaliser goes from dispatch to dispatch, and every tile of columns needs it.
TEST_F(LinearAttentionGpu, NormaliserOverDispatches) {
  const auto few_loops = make_device({{"max_loop_iterations", 1024}});
  ASSERT_TRUE(few_loops);
  for (const bool causal : {false, true})
    for (const bool present : {false, true}) {
      LinearCase c = of_rule(UpdateRule::linear, 90, 24, 70);
      c.attrs.map = FeatureMap::elu_plus_one;
      c.attrs.normalise = true;
      c.attrs.causal = causal;
      c.past = c.present = present;
      check(c, few_loops.get());
    }
}

TEST_F(LinearAttentionGpu, ZeroDenominatorGivesZeros) {
  LinearCase c = of_rule(UpdateRule::linear, 3, 4, 4);
  c.attrs.map = FeatureMap::relu;
  c.attrs.normalise = true;
  const LinearProgram made(c);
  const auto gpu = take(GpuWalker::create(*device_, made.program, {}));
  ASSERT_TRUE(gpu);
  for (const ValueId id : made.given) {
    const std::vector<float> below(made.program->values[id].elems(), -1.0f);
    expect_ok(gpu->write(id, 0, std::as_bytes(std::span(below))));
  }
  expect_ok(gpu->run(0));
  std::vector<float> y(12, 7.0f);
  expect_ok(gpu->read(made.program->graphs[0].ops[0].out[0], 0, std::as_writable_bytes(std::span(y))));
  EXPECT_EQ(y, std::vector<float>(12, 0.0f));
}

// All sequences have the keys of one: the state is a matrix times each of several.
TEST_F(LinearAttentionGpu, SharedKeys) {
  for (const std::uint32_t len : {1u, 16u, 50u}) {
    LinearCase c = of_rule(UpdateRule::linear, len, 21, 10);
    c.attrs.batch = 3;
    c.attrs.shared_keys = true;
    check(c);
    c.output = false;
    check(c);
  }
}

TEST_F(LinearAttentionGpu, ChunksInSharedMemory) {
  const auto program = LinearProgram(of_rule(UpdateRule::gated_delta, 64, 64, 64)).program;
  const LinearAttentionShape shape{.attrs = program->graphs[0].ops[0].attrs.linear, .present = true};
  Target target = target_of(*device_);
  target.limits.max_shared_bytes = 48 * 1024;
  target.limits.max_loop_iterations = 0xffffffff;
  const auto choice = choose_linear_attention(shape, target);
  ASSERT_TRUE(choice) << choice.error().message;
  EXPECT_EQ(choice->dispatches[0].spec[shader::kLinearSpecChunk], 16u);
  LinearAttentionShape decode = shape;
  decode.attrs.len = 1;
  const auto one = choose_linear_attention(decode, target);
  ASSERT_TRUE(one) << one.error().message;
  EXPECT_EQ(one->dispatches[0].spec[shader::kLinearSpecChunk], 1u);
  EXPECT_GT(one->dispatches[0].spec[shader::kLinearSpecParts], 1u);
  target.limits.max_shared_bytes = 1000;
  expect_refused(choose_linear_attention(shape, target), Code::unsupported, {"too little shared memory"});
}

}  // namespace
}  // namespace tessera::test
