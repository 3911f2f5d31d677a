// A decoder with random weights of useful sizes, as a GGUF file in memory.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "models/decoder.h"
#include "support/gguf_builder.h"
#include "support/random_blocks.h"

namespace tessera::test {

struct RandomDecoder {
  std::string arch = "llama";
  std::uint32_t layers = 2, dim = 64, hidden = 96, heads = 4, kv_heads = 2, vocab = 96, context = 64;
  std::uint32_t rope_dims = 0;  // of a head; 0: all
  DType type = DType::f32;      // of matrices; for the k-quants `dim` and `hidden` must be multiples of 256
  bool tied = false;
  float output_scale = 1;  // NaN spoils the logits
  Precision precision = Precision::f32;

  std::vector<std::byte> bytes() const {
    GgufBuilder b;
    b.string("general.architecture", arch).u32(arch + ".block_count", layers);
    b.u32(arch + ".embedding_length", dim).u32(arch + ".feed_forward_length", hidden);
    b.u32(arch + ".context_length", context).u32(arch + ".attention.head_count", heads);
    b.u32(arch + ".attention.head_count_kv", kv_heads).f32(arch + ".attention.layer_norm_rms_epsilon", 1e-5f);
    if (rope_dims) b.u32(arch + ".rope.dimension_count", rope_dims);
    std::mt19937 random(7);
    const std::uint64_t kv = std::uint64_t{dim} / heads * kv_heads;
    // Products of unit vectors stay unit: each sum of k terms has weights of variance 1/k.
    const auto matrix = [&](const std::string& name, std::uint64_t n, std::uint64_t k, double scale = 1) {
      const double deviation = scale / std::sqrt(static_cast<double>(k));
      if (can_encode(type)) {
        b.tensor(name, {n, k}, draw(random, n * k, 0, deviation), type);
        return;
      }
      const auto spread = static_cast<float>(deviation * std::sqrt(3.0));
      b.raw_tensor(
          name, {n, k}, *gguf::from_dtype(type),
          random_blocks(type, n * k / info(type).block_elems, static_cast<std::uint32_t>(random()), spread));
    };
    const auto vector = [&](const std::string& name, std::uint64_t n, double mean) {
      b.tensor(name, {n}, draw(random, n, mean, 0.2));
    };
    matrix("token_embd.weight", vocab, dim, std::sqrt(static_cast<double>(dim)));
    vector("output_norm.weight", dim, 1);
    if (!tied) matrix("output.weight", vocab, dim, static_cast<double>(output_scale));
    for (std::uint32_t i = 0; i < layers; ++i) {
      const std::string blk = "blk." + std::to_string(i) + ".";
      vector(blk + "attn_norm.weight", dim, 1);
      matrix(blk + "attn_q.weight", dim, dim);
      matrix(blk + "attn_k.weight", kv, dim);
      matrix(blk + "attn_v.weight", kv, dim);
      matrix(blk + "attn_output.weight", dim, dim);
      vector(blk + "ffn_norm.weight", dim, 1);
      matrix(blk + "ffn_gate.weight", hidden, dim);
      matrix(blk + "ffn_up.weight", hidden, dim);
      matrix(blk + "ffn_down.weight", dim, hidden);
      if (arch != "qwen2") continue;
      vector(blk + "attn_q.bias", dim, 0);
      vector(blk + "attn_k.bias", kv, 0);
      vector(blk + "attn_v.bias", kv, 0);
    }
    return b.build();
  }

  // 0: the model's context.
  DecoderProgram build(std::uint32_t positions = 0, std::uint32_t chunk = 64,
                       std::optional<DType> kv_type = {}, bool all_logits = false) const {
    DecoderOptions options;
    options.context = positions;
    options.chunk = chunk;
    options.kv_type = kv_type;
    options.all_logits = all_logits;
    options.precision = precision;
    auto file = ModelFile::open(source_of(bytes()));
    if (!file) return failed(file.error());
    auto built = build_decoder(std::make_shared<const ModelFile>(*std::move(file)), options);
    if (!built) return failed(built.error());
    return *std::move(built);
  }

 private:
  static DecoderProgram failed(const Error& error) {
    ADD_FAILURE() << error.message;
    return {};
  }
  static std::vector<float> draw(std::mt19937& random, std::uint64_t n, double mean, double deviation) {
    std::vector<float> values(n);
    // Uniform with that deviation, from the generator's own bits: the same numbers with every library.
    for (float& x : values)
      x = static_cast<float>(mean + deviation * std::sqrt(12.0) *
                                        (static_cast<double>(random()) / 4294967296.0 - 0.5));
    return values;
  }
};

// Ids spread over a vocabulary.
inline std::vector<std::uint32_t> spread_ids(std::uint32_t count, std::uint32_t vocab) {
  std::vector<std::uint32_t> ids;
  for (std::uint32_t i = 0; i < count; ++i)
    ids.push_back(static_cast<std::uint32_t>(std::uint64_t{i + 1} * 2654435761u % vocab));
  return ids;
}

}  // namespace tessera::test
