// Every op against PyTorch in float64, and PyTorch in float32 against the bounds (tools/goldens/ops.py).
#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "reference/one_op.h"

namespace tessera::test {
namespace {

using nlohmann::json;

const json& goldens() {
  static const json file = [] {
    std::ifstream in(TESSERA_SOURCE_DIR "/tests/data/ops_golden.json");
    return json::parse(in, nullptr, false);
  }();
  return file;
}

OpKind kind_of(const std::string& text) {
  for (int k = 0; k <= static_cast<int>(OpKind::advance); ++k)
    if (name(static_cast<OpKind>(k)) == text) return static_cast<OpKind>(k);
  throw std::runtime_error("kind " + text);
}

OpAttrs attrs_of(const json& j) {
  OpAttrs a;
  for (int k = 0; k <= static_cast<int>(Activation::sigmoid); ++k)
    if (name(static_cast<Activation>(k)) == j.value("act", "none")) a.act = static_cast<Activation>(k);
  a.scale = j.value("scale", 1.0f);
  a.layer_norm = j.value("layer_norm", false);
  a.eps = j.value("eps", 0.0f);
  a.heads = j.value("heads", 0u);
  a.kv_heads = j.value("kv_heads", 0u);
  a.head_dim = j.value("head_dim", 0u);
  a.rope_dims = j.value("rope_dims", 0u);
  a.rope_adjacent = j.value("rope_adjacent", false);
  return a;
}

AttentionAttrs attention_of(const json& j) {
  AttentionAttrs a;
  a.heads = j.value("heads", 0u);
  a.kv_heads = j.value("kv_heads", 0u);
  a.head_dim = a.v_dim = j.value("head_dim", 0u);
  a.scale = j.value("scale", 0.0f);
  a.causal = j.value("causal", false) ? Causal::bottom_right : Causal::none;
  if (const auto window = j.value("window", 0u); window != 0) a.window_left = window - 1;
  a.cache = true;
  return a;
}

// Ops that have their rows from the state in any case.
bool takes_rows(OpKind kind) {
  return kind == OpKind::rope || kind == OpKind::kv_append || kind == OpKind::rope_append ||
         kind == OpKind::attention;
}

std::vector<std::byte> unhex(const std::string& text) {
  std::vector<std::byte> out;
  for (std::size_t i = 0; i < text.size(); i += 2)
    out.push_back(static_cast<std::byte>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return out;
}

// A dynamic case is given one row more than it uses: what is there must not matter.
class GoldenOp : public ::testing::TestWithParam<std::size_t> {
 protected:
  const json& golden() const { return goldens()["cases"][GetParam()]; }
  bool dynamic() const { return golden()["dynamic"].get<bool>(); }

  std::vector<std::uint64_t> padded(const json& operand, bool grows) const {
    auto shape = operand["shape"].get<std::vector<std::uint64_t>>();
    if (grows) ++shape[0];
    return shape;
  }

  ValueId input(const json& in) {
    if (in.is_null()) return kNoValue;
    if (in.is_string()) return bench_.state();
    const auto storage = in["storage"].get<std::string>();
    const DType dtype = *parse_dtype(in["dtype"].get<std::string>());
    if (storage == "input") {
      const ValueId id = bench_.add("words", Storage::input, dtype, padded(in, false), false);
      words_.emplace_back(id, in["data"].get<std::vector<std::uint32_t>>());
      return id;
    }
    if (storage == "weight" && in.contains("hex"))
      return bench_.weight(dtype, padded(in, false), unhex(in["hex"].get<std::string>()));
    auto data = in["data"].get<std::vector<float>>();
    if (storage == "weight") return bench_.weight(padded(in, false), data);
    if (storage == "constant") return bench_.constant(padded(in, false), data);
    const bool cache = storage == "cache";
    if (!cache) rows_ = in["shape"][0].get<std::uint32_t>();
    const ValueId id = cache ? bench_.add("cache", Storage::cache, dtype, padded(in, false), false)
                             : bench_.given(padded(in, dynamic()), dynamic(), dtype);
    std::vector<std::byte> file(file_bytes(data.size(), info(dtype)));
    encode_row(dtype, data, file);
    bytes_.emplace_back(id, std::move(file));
    return id;
  }

  void build() {
    std::vector<ValueId> in, out;
    for (const json& operand : golden()["inputs"]) in.push_back(input(operand));
    for (const json& output : golden()["outputs"]) {
      if (output.contains("in_place")) {
        out.push_back(in[output["in_place"].get<std::size_t>()]);
        continue;
      }
      const bool grows = output.value("dynamic", dynamic());
      const auto shape = padded(output, grows);
      if (grows) rows_ = static_cast<std::uint32_t>(shape[0] - 1);
      out.push_back(bench_.activation(shape, grows, *parse_dtype(output.value("dtype", "F32"))));
    }
    const OpKind kind = kind_of(golden()["kind"].get<std::string>());
    if (kind == OpKind::norm && out.size() == 1) out.push_back(kNoValue);
    if (kind == OpKind::kv_append || kind == OpKind::rope_append || kind == OpKind::embedding)
      in.push_back(kNoValue);
    if (kind == OpKind::matmul) in.resize(6, kNoValue);
    OpAttrs attrs = attrs_of(golden()["attrs"]);
    bench_.graph().max_rows = rows_ + (dynamic() ? 1 : 0);
    if (kind == OpKind::attention) {
      attrs.attention = attention_of(golden()["attrs"]);
      attrs.attention.q_len = bench_.graph().max_rows;
      attrs.attention.kv_len = golden()["inputs"][1]["shape"][1].get<std::uint32_t>();
      in.resize(static_cast<std::size_t>(AttentionIn::count), kNoValue);
      out.resize(3, kNoValue);
    }
    bench_.op(kind, attrs, in, out);
    for (const auto& [id, data] : words_) bench_.write(id, data);
    for (const auto& [id, data] : bytes_) bench_.write(id, data);
    StepState state;
    state.position = golden()["position"].get<std::uint32_t>();
    state.rows = dynamic() || takes_rows(kind) ? rows_ : 0;
    bench_.write_state(state);
  }

  Bench bench_;
  std::uint32_t rows_ = 0;
  std::vector<std::pair<ValueId, std::vector<std::uint32_t>>> words_;
  std::vector<std::pair<ValueId, std::vector<std::byte>>> bytes_;
};

TEST_P(GoldenOp, AgreesWithPyTorch) {
  build();
  const std::vector<ReferenceOutput> outputs = bench_.run();
  ASSERT_EQ(outputs.size(), golden()["outputs"].size());
  for (std::size_t o = 0; o < outputs.size(); ++o) {
    SCOPED_TRACE("output " + std::to_string(o));
    const json& wanted = golden()["outputs"][o];
    const auto expected = wanted["expected"].get<std::vector<double>>();
    const auto f32 = wanted["f32"].get<std::vector<float>>();
    const ReferenceOutput& got = outputs[o];
    ASSERT_EQ(got.expected.size(), expected.size());
    ASSERT_EQ(got.bound.size(), expected.size());
    const DType type = bench_.program().values[got.value].dtype;
    std::vector<std::uint64_t> elements;
    double size = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) size = std::max(size, std::fabs(expected[i]));
    const bool by_element = golden()["kind"] == "attention";  // which goes head by head
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const std::size_t e = by_element ? got.element(i) : i;
      EXPECT_NEAR(got.expected[i], expected[e], 1e-11 * (1 + std::fabs(expected[e]))) << "element " << e;
      EXPECT_TRUE(got.accepts(i, f32[e]))
          << "element " << e << ": " << f32[e] << " for " << got.expected[i] << " within " << got.bound[i];
      // A bound that allows a thousandth of the largest element would find nothing.
      EXPECT_LE(got.bound[i], (type == DType::f16 ? 1e-3 : 1e-4) * size) << "element " << i;
      elements.push_back(got.element(i));
    }
    if (wanted.contains("elements")) {
      EXPECT_THAT(elements,
                  ::testing::UnorderedElementsAreArray(wanted["elements"].get<std::vector<std::uint64_t>>()));
    }
  }
}

std::string case_name(const ::testing::TestParamInfo<std::size_t>& param) {
  return goldens()["cases"][param.param]["name"].get<std::string>();
}
INSTANTIATE_TEST_SUITE_P(Ops, GoldenOp, ::testing::Range(std::size_t{0}, goldens()["cases"].size()),
                         case_name);

}  // namespace
}  // namespace tessera::test
