// A linear attention as a program of one op, on the device and in the reference.
#pragma once

#include <array>
#include <cmath>
#include <map>
#include <random>
#include <sstream>

#include "reference/reference.h"
#include "schedule/gpu_walker.h"
#include "support/gpu_fixture.h"

namespace tessera::test {

struct LinearCase {
  LinearAttentionAttrs attrs;
  DType q_type = DType::f32, k_type = DType::f32, v_type = DType::f32, y_type = DType::f32;
  bool past = false, present = false, output = true;
  bool in_place = false;  // of the state
  float decays = 1;       // times decays of up to 1.5 a row
  float forgets = -150;   // the decay of a row in sixty
  float most_beta = 1;
  std::uint32_t seed = 0;

  void set_types(DType type) { q_type = k_type = v_type = y_type = type; }
};

inline LinearCase of_rule(UpdateRule rule, std::uint32_t len, std::uint32_t k_dim, std::uint32_t v_dim) {
  LinearCase c;
  c.attrs.rule = rule;
  c.attrs.len = len;
  c.attrs.k_dim = k_dim;
  c.attrs.v_dim = v_dim;
  c.attrs.scale = 0.3f;
  c.present = true;
  return c;
}

inline std::string text_of(const LinearCase& c) {
  const LinearAttentionAttrs& a = c.attrs;
  std::ostringstream text;
  text << "seed " << c.seed << " " << name(a.rule) << " batch " << a.batch << " len " << a.len << " heads "
       << a.heads << "/" << a.kv_heads << " k_dim " << a.k_dim << " v_dim " << a.v_dim << " map "
       << name(a.map) << " types";
  for (const DType type : {c.q_type, c.k_type, c.v_type, c.y_type}) text << " " << info(type).name;
  text << (a.decay_by_dim ? " by_dim" : "") << (a.beta_by_head ? " by_head" : "") << (a.causal ? "" : " full")
       << (a.normalise ? " normalised" : "") << (a.shared_keys ? " shared_keys" : "")
       << (c.past ? " past" : "") << (c.present ? " present" : "") << (c.output ? "" : " no output")
       << (c.in_place ? " in place" : "") << " decays " << c.decays;
  return text.str();
}

// All but the results are outputs, which a host may write.
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
    if (c.output) put(LinearIn::q, "q", c.q_type, {rows, std::uint64_t{a.heads} * a.k_dim});
    put(LinearIn::k, "k", c.k_type, {a.shared_keys ? a.len : rows, kv * a.k_dim});
    put(LinearIn::v, "v", c.v_type, {rows, kv * a.v_dim});
    if (c.past) put(LinearIn::past, "past", DType::f32, state);
    if (is_gated(a.rule))
      put(LinearIn::decay, "decay", DType::f32, {rows, kv * (a.decay_by_dim ? a.k_dim : 1)});
    if (is_delta(a.rule)) put(LinearIn::beta, "beta", DType::f32, {rows, a.beta_by_head ? kv : 1});
    if (a.normalise && c.past) put(LinearIn::past_normaliser, "past_z", DType::f32, normaliser);
    if (c.output) out[0] = add("y", Storage::output, c.y_type, {rows, std::uint64_t{a.heads} * a.v_dim});
    if (c.present)
      out[1] = c.in_place ? in[static_cast<std::size_t>(LinearIn::past)]
                          : add("present", Storage::output, DType::f32, state);
    if (c.present && a.normalise) out[2] = add("z", Storage::output, DType::f32, normaliser);
    for (const ValueId id : out)
      if (id != kNoValue) made.push_back(id);
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

  const Value& value(ValueId id) const { return program->values[id]; }

  std::shared_ptr<Program> program = std::make_shared<Program>();
  std::vector<ValueId> given, made;
};

// By name: q, k, v, past, decay, beta, past_z; y, present (or past, in place), z.
using LinearTensors = std::map<std::string, std::vector<float>>;

inline void make_unit_rows(std::vector<float>& x, std::size_t dim) {
  for (std::size_t first = 0; first < x.size(); first += dim) {
    float squares = 0;
    for (std::size_t i = 0; i < dim; ++i) squares += x[first + i] * x[first + i];
    for (std::size_t i = 0; i < dim; ++i) x[first + i] /= std::sqrt(squares);
  }
}

// Keys of length 1 (of delta rules), decays from none to a state that is gone at once.
inline std::vector<float> numbers(const Value& value, const LinearCase& c, std::uint32_t id) {
  const LinearAttentionAttrs& a = c.attrs;
  std::mt19937 engine(id + 100 * c.seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> out(value.elems());
  for (float& x : out) {
    x = uniform(engine);
    if (value.name == "decay")
      x = x > 0.97f ? c.forgets : x > 0.9f ? 0 : -1.5f * c.decays * (1 + x) * (1 + x) * (1 + x) / 8;
    if (value.name == "beta") x = c.most_beta * (1 + x) / 2;
    if (value.name == "past_z") x = 1 + x;
    // Products that do not cancel: a denominator near 0 has no bound.
    if (a.normalise && a.map == FeatureMap::none && (value.name == "q" || value.name == "k")) x = 1.1f + x;
  }
  if (value.name == "k" && is_delta(a.rule)) make_unit_rows(out, a.k_dim);
  return out;
}

inline LinearTensors numbers(const LinearCase& c) {
  const LinearProgram made(c);
  LinearTensors out;
  for (const ValueId id : made.given) out[made.value(id).name] = numbers(made.value(id), c, id);
  return out;
}

// Rows [first, end) of each of `sequences` of `len`.
inline std::vector<float> rows_of(const std::vector<float>& x, std::size_t sequences, std::size_t len,
                                  std::size_t first, std::size_t end) {
  const std::size_t row = x.size() / sequences / len;
  std::vector<float> out;
  for (std::size_t b = 0; b < sequences; ++b)
    out.insert(out.end(), x.begin() + std::ptrdiff_t((b * len + first) * row),
               x.begin() + std::ptrdiff_t((b * len + end) * row));
  return out;
}
inline LinearTensors rows_of(const LinearTensors& given, const LinearAttentionAttrs& a, std::size_t first,
                             std::size_t end) {
  LinearTensors out;
  for (const auto& [name, x] : given)
    out[name] = name.starts_with("past")
                    ? x
                    : rows_of(x, name == "k" && a.shared_keys ? 1 : a.batch, a.len, first, end);
  return out;
}

class LinearAttentionGpu : public GpuTest {
 protected:
  // What the device makes of `given`.
  LinearTensors run(const LinearCase& c, const LinearTensors& given, Device* on = nullptr) {
    const LinearProgram made(c);
    const auto gpu = take(GpuWalker::create(on != nullptr ? *on : *device_, made.program, {}));
    LinearTensors out;
    if (!gpu) return out;
    write(*gpu, made, given);
    expect_ok(gpu->run(0));
    for (const ValueId id : made.made) out[made.value(id).name] = read(*gpu, id);
    return out;
  }

  // Within the reference's bounds. Errors of a delta rule's state need not shrink from row to row: a bound
  // over many rows would find nothing. So the reference begins again every few rows from the state that the
  // device has there, having taken as many rows a call: whole chunks, which are the same in longer calls.
  void check(const LinearCase& c, Device* on = nullptr) {
    constexpr std::uint32_t kDeltaRows = 32;
    SCOPED_TRACE(text_of(c));
    const LinearTensors given = numbers(c), found = run(c, given, on);
    if (HasFailure()) return;
    const std::uint32_t len = c.attrs.len, step = is_delta(c.attrs.rule) ? kDeltaRows : len;
    LinearCase part = c;
    std::vector<float> state;
    for (std::uint32_t first = 0; first < len; first += step) {
      const bool last = first + step >= len;
      part.attrs.len = std::min(step, len - first);
      part.present = c.present && last;
      part.in_place = c.in_place && part.present;
      LinearTensors rows = rows_of(given, c.attrs, first, first + part.attrs.len);
      if (first > 0) rows["past"] = state;
      if (part.output || part.present) compare(c, part, rows, found, first);
      if (last || HasFailure()) return;
      part.present = true;
      state = run(part, rows, on)["present"];
      part.past = true;
    }
  }

 private:
  static void write(Walker& walker, const LinearProgram& made, const LinearTensors& given) {
    for (const ValueId id : made.given) {
      const Value& value = made.value(id);
      const std::vector<float>& numbers = given.at(value.name);
      ASSERT_EQ(numbers.size(), value.elems()) << value.name;
      std::vector<std::byte> bytes(value_bytes(value));
      encode_row(value.dtype, numbers, bytes);
      expect_ok(walker.write(id, 0, bytes));
    }
  }

  static std::vector<float> read(Walker& walker, ValueId id) {
    const Value& value = walker.program().values[id];
    std::vector<std::byte> bytes(value_bytes(value));
    expect_ok(walker.read(id, 0, bytes));
    std::vector<float> out(value.elems());
    decode_row(value.dtype, bytes, out);
    return out;
  }

  // The rows of `part`, which begin at row `first` of c, against the reference.
  static void compare(const LinearCase& c, const LinearCase& part, const LinearTensors& given,
                      const LinearTensors& found, std::uint32_t first) {
    const LinearProgram made(part);
    const auto reference = take(ReferenceWalker::create(made.program));
    ASSERT_TRUE(reference);
    write(*reference, made, given);
    const auto outputs = take(reference->run_op(0, 0, true));
    EXPECT_EQ(outputs.size(), made.made.size());
    for (const ReferenceOutput& expected : outputs) {
      const std::string& name = made.value(expected.value).name;
      const std::vector<float>& all = found.at(name);
      compare(name, expected,
              name == "y" ? rows_of(all, c.attrs.batch, c.attrs.len, first, first + part.attrs.len) : all);
    }
  }

  static void compare(const std::string& name, const ReferenceOutput& expected,
                      const std::vector<float>& found) {
    ASSERT_EQ(expected.expected.size(), found.size());
    int wrong = 0;
    double size = 0, loose = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      const std::uint64_t at = expected.element(i);
      size = std::max(size, std::abs(expected.expected[i]));
      if (std::isfinite(expected.bound[i])) loose = std::max(loose, expected.bound[i]);
      if (!expected.accepts(i, double{found[at]}) && ++wrong <= 3)
        ADD_FAILURE() << name << "[" << at << "] is " << found[at] << ", not " << expected.expected[i]
                      << " +- " << expected.bound[i];
    }
    EXPECT_LE(loose, 0.05 * size + 1e-7) << name << ": the bound is too wide to find anything";
  }
};

}  // namespace tessera::test
