// A decoder of two layers as a GGUF file in memory, with whatever a test changes about it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "formats/model_file.h"
#include "support/gguf_builder.h"

namespace tessera::test {

struct TinyGguf {
  std::string arch = "llama";
  std::uint32_t layers = 2, dim = 32, hidden = 64, heads = 4, kv_heads = 2, head_dim = 8, vocab = 40;
  DType matrices = DType::f32;
  DType vectors = DType::f32;
  bool output = true;     // else tied
  bool qkv_bias = false;  // always for qwen2

  struct Tensor {
    std::vector<std::uint64_t> shape;
    DType dtype;
  };
  using Meta = std::function<void(GgufBuilder&, const std::string& key)>;
  std::map<std::string, Meta> metadata;
  std::map<std::string, Tensor> tensors;

  static Meta u32(std::uint32_t value) {
    return [=](GgufBuilder& b, const std::string& key) { b.u32(key, value); };
  }
  static Meta f32(float value) {
    return [=](GgufBuilder& b, const std::string& key) { b.f32(key, value); };
  }
  static Meta text(const std::string& value) {
    return [=](GgufBuilder& b, const std::string& key) { b.string(key, value); };
  }
  // Sets "<arch>.<key>".
  TinyGguf& set(const std::string& key, Meta meta) {
    metadata[arch + "." + key] = std::move(meta);
    return *this;
  }

  // Call after the fields are as wanted; then metadata and tensors may be changed.
  TinyGguf& fill() {
    metadata["general.architecture"] = text(arch);
    set("block_count", u32(layers)).set("embedding_length", u32(dim)).set("feed_forward_length", u32(hidden));
    set("context_length", u32(64)).set("attention.head_count", u32(heads));
    set("attention.head_count_kv", u32(kv_heads)).set("attention.layer_norm_rms_epsilon", f32(1e-5f));
    if (head_dim * heads != dim)
      set("attention.key_length", u32(head_dim)).set("attention.value_length", u32(head_dim));
    const std::uint64_t q = std::uint64_t{heads} * head_dim, kv = std::uint64_t{kv_heads} * head_dim;
    tensors["token_embd.weight"] = {{vocab, dim}, matrices};
    tensors["output_norm.weight"] = {{dim}, vectors};
    if (output) tensors["output.weight"] = {{vocab, dim}, matrices};
    for (std::uint32_t i = 0; i < layers; ++i) {
      const std::string blk = "blk." + std::to_string(i) + ".";
      tensors[blk + "attn_norm.weight"] = {{dim}, vectors};
      tensors[blk + "attn_q.weight"] = {{q, dim}, matrices};
      tensors[blk + "attn_k.weight"] = {{kv, dim}, matrices};
      tensors[blk + "attn_v.weight"] = {{kv, dim}, matrices};
      tensors[blk + "attn_output.weight"] = {{dim, q}, matrices};
      tensors[blk + "ffn_norm.weight"] = {{dim}, vectors};
      tensors[blk + "ffn_gate.weight"] = {{hidden, dim}, matrices};
      tensors[blk + "ffn_up.weight"] = {{hidden, dim}, matrices};
      tensors[blk + "ffn_down.weight"] = {{dim, hidden}, matrices};
      if (!qkv_bias && arch != "qwen2") continue;
      tensors[blk + "attn_q.bias"] = {{q}, vectors};
      tensors[blk + "attn_k.bias"] = {{kv}, vectors};
      tensors[blk + "attn_v.bias"] = {{kv}, vectors};
    }
    return *this;
  }

  std::shared_ptr<const ModelFile> open() const {
    GgufBuilder b;
    for (const auto& [key, meta] : metadata) meta(b, key);
    std::mt19937 random(1);
    std::uniform_real_distribution<float> uniform(0.1f, 0.5f);
    for (const auto& [name, tensor] : tensors) {
      std::uint64_t n = 1;
      for (std::uint64_t d : tensor.shape) n *= d;
      std::vector<float> values(n);
      for (float& x : values) x = uniform(random);
      b.tensor(name, tensor.shape, values, tensor.dtype);
    }
    auto file = ModelFile::open(source_of(b.build()));
    EXPECT_TRUE(file.ok()) << file.error().message;
    return std::make_shared<const ModelFile>(*std::move(file));
  }
};

}  // namespace tessera::test
