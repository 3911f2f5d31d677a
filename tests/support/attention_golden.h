// The cases of tests/data/attention_golden.safetensors that have strides (tools/goldens/attention.py).
#pragma once

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/attention.h"

namespace tessera::test {

struct StridedTensor {
  DType type = DType::f32;
  std::vector<std::byte> bytes;  // from the first to the last element; of Y NaN where nothing is written
  std::uint64_t elems() const { return bytes.size() / info(type).block_bytes; }
  double at(std::uint64_t i) const {
    if (type == DType::f32) {
      float x = 0;
      std::memcpy(&x, bytes.data() + 4 * i, 4);
      return x;
    }
    std::uint16_t x = 0;
    std::memcpy(&x, bytes.data() + 2 * i, 2);
    return type == DType::f16 ? f16_to_f32(x) : bf16_to_f32(x);
  }
};

struct StridedAttention {
  std::string name;
  AttentionAttrs attrs;
  StridedTensor q, k, v, y;
  // What an element of y may be off by: `of_f32`, relative and absolute, and the rounding of its type.
  double tolerance(double value, double of_f32) const {
    const double rounding = y.type == DType::f16 ? 0x1p-10 : y.type == DType::bf16 ? 0x1p-7 : 0;
    return of_f32 + (of_f32 + rounding) * std::abs(value);
  }
};

inline std::vector<StridedAttention> strided_attentions() {
  using nlohmann::json;
  std::ifstream in(TESSERA_SOURCE_DIR "/tests/data/attention_golden.safetensors", std::ios::binary);
  const std::string content(std::istreambuf_iterator<char>(in), {});
  std::uint64_t length = 0;
  if (content.size() < 8) return {};
  std::memcpy(&length, content.data(), 8);
  const json header = json::parse(content.substr(8, length), nullptr, false);
  std::vector<StridedAttention> out;
  for (const auto& [name, text] : header["__metadata__"].items()) {
    const json golden = json::parse(text.get<std::string>(), nullptr, false);
    if (!golden.contains("strides")) continue;
    StridedAttention a;
    a.name = name;
    const auto take = [&](const char* tensor, const char* side, StridedTensor& to, Strides& strides) {
      const json& stored = header[golden[side][tensor].get<std::string>()];
      to.type = *parse_dtype(stored["dtype"].get<std::string>());
      const auto offsets = stored["data_offsets"].get<std::vector<std::uint64_t>>();
      to.bytes.resize(offsets[1] - offsets[0]);
      std::memcpy(to.bytes.data(), content.data() + 8 + length + offsets[0], to.bytes.size());
      strides = golden["strides"][tensor].get<Strides>();
      return golden["shapes"][tensor].get<std::vector<std::uint32_t>>();
    };
    const auto q = take("Q", "in", a.q, a.attrs.q_strides), k = take("K", "in", a.k, a.attrs.k_strides);
    const auto v = take("V", "in", a.v, a.attrs.v_strides), y = take("Y", "out", a.y, a.attrs.y_strides);
    a.attrs.batch = q[0];
    a.attrs.heads = q[1];
    a.attrs.q_len = q[2];
    a.attrs.head_dim = q[3];
    a.attrs.kv_heads = k[1];
    a.attrs.kv_len = k[2];
    a.attrs.v_dim = v[3];
    a.attrs.scale = 1 / std::sqrt(static_cast<float>(q[3]));
    for (const std::string setting : golden["set"])
      a.attrs.causal = setting == "causal=bottom_right" ? Causal::bottom_right : Causal::top_left;
    out.push_back(std::move(a));
  }
  return out;
}

}  // namespace tessera::test
