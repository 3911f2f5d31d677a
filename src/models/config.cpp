#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>

#include "base/text.h"
#include "models/family.h"

namespace tessera {
namespace {

// Far above any model, far below what overflows a product of two dimensions.
constexpr std::uint64_t kMaxLayers = 4096;
constexpr std::uint64_t kMaxDim = 1u << 20;
constexpr std::uint64_t kMaxHidden = 1u << 22;
constexpr std::uint64_t kMaxHeads = 1u << 14;
constexpr std::uint64_t kMaxHeadDim = 1024;
constexpr std::uint64_t kMaxVocab = 1u << 24;
constexpr std::uint64_t kMaxContext = 1u << 24;
constexpr std::uint64_t kAnyWindow = std::numeric_limits<std::uint32_t>::max();

constexpr std::array kFamilies{&kLlamaFamily, &kQwen2Family};

std::string number(double x) { return std::to_string(x); }

// Keys of one architecture ("llama." + key), each within its bounds.
class Keys {
 public:
  Keys(const ModelFile& file, std::string architecture)
      : file_(file), prefix_(std::move(architecture) + ".") {}

  std::string key(const std::string& name) const { return prefix_ + name; }
  const ModelFile& file() const { return file_; }
  Error bad(const std::string& what) const { return model_error(file_, Code::bad_model, what); }
  Error unsupported(const std::string& what) const { return model_error(file_, Code::unsupported, what); }
  bool has(const std::string& name) const { return file_.metadata().contains(key(name)); }

  Result<std::uint32_t> count(const std::string& name, std::uint64_t max) const {
    TSR_TRY(std::uint64_t n, file_.get_uint(key(name)));
    return within(name, n, 1, max);
  }
  Result<std::uint32_t> count(const std::string& name, std::uint64_t fallback, std::uint64_t min,
                              std::uint64_t max) const {
    if (!has(name)) return static_cast<std::uint32_t>(fallback);
    TSR_TRY(std::uint64_t n, file_.get_uint(key(name)));
    return within(name, n, min, max);
  }
  // Finite and in [min, max].
  Result<double> real(const std::string& name, double fallback, double min, double max) const {
    TSR_TRY(double x, file_.get_float(key(name), fallback));
    if (!(x >= min && x <= max))
      return bad(key(name) + " is " + number(x) + ", must be from " + number(min) + " to " + number(max));
    return x;
  }
  Result<std::string> text(const std::string& name, const std::string& fallback) const {
    return file_.get_string(key(name), fallback);
  }

 private:
  Result<std::uint32_t> within(const std::string& name, std::uint64_t n, std::uint64_t min,
                               std::uint64_t max) const {
    if (n < min || n > max)
      return bad(key(name) + " is " + std::to_string(n) + ", must be from " + std::to_string(min) + " to " +
                 std::to_string(max));
    return static_cast<std::uint32_t>(n);
  }

  const ModelFile& file_;
  std::string prefix_;
};

Result<void> read_dimensions(const Keys& keys, DecoderConfig& c) {
  TSR_TRY(c.layers, keys.count("block_count", kMaxLayers));
  TSR_TRY(c.dim, keys.count("embedding_length", kMaxDim));
  TSR_TRY(c.hidden, keys.count("feed_forward_length", kMaxHidden));
  TSR_TRY(c.context, keys.count("context_length", kMaxContext));
  TSR_TRY(std::uint32_t experts, keys.count("expert_count", 0, 0, kMaxHidden));
  if (experts > 0)
    return keys.unsupported(keys.key("expert_count") + " is " + std::to_string(experts) +
                            ": mixtures of experts are not supported");
  return {};
}

Result<void> read_attention(const Keys& keys, DecoderConfig& c) {
  TSR_TRY(c.heads, keys.count("attention.head_count", kMaxHeads));
  TSR_TRY(c.kv_heads, keys.count("attention.head_count_kv", c.heads, 1, kMaxHeads));
  if (c.heads % c.kv_heads != 0)
    return keys.bad(keys.key("attention.head_count_kv") + " is " + std::to_string(c.kv_heads) +
                    ", which does not divide the " + std::to_string(c.heads) + " heads");
  if (!keys.has("attention.key_length") && c.dim % c.heads != 0)
    return keys.bad(keys.key("attention.head_count") + " is " + std::to_string(c.heads) +
                    ", which does not divide the embedding length " + std::to_string(c.dim));
  TSR_TRY(c.head_dim, keys.count("attention.key_length", c.dim / c.heads, 1, kMaxHeadDim));
  TSR_TRY(std::uint32_t v_dim, keys.count("attention.value_length", c.dim / c.heads, 1, kMaxHeadDim));
  if (c.head_dim > kMaxHeadDim)
    return keys.unsupported("heads of " + std::to_string(c.head_dim) +
                            " dimensions are not supported; at most " + std::to_string(kMaxHeadDim) + " are");
  if (v_dim != c.head_dim)
    return keys.unsupported(keys.key("attention.key_length") + " is " + std::to_string(c.head_dim) +
                            " but the value length is " + std::to_string(v_dim) +
                            ": heads with different lengths are not supported");
  TSR_TRY(c.window, keys.count("attention.sliding_window", 0, 0, kAnyWindow));
  TSR_TRY(double eps, keys.real("attention.layer_norm_rms_epsilon", 1e-5, 0, 0.1));
  c.eps = static_cast<float>(eps);
  TSR_TRY(double scale, keys.real("attention.scale", 0, 0, 1e6));
  if (scale == 0) scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
  c.attention_scale = static_cast<float>(scale);
  return {};
}

Result<RopeScaling> read_scaling_type(const Keys& keys) {
  const bool has_factor = keys.has("rope.scaling.factor") || keys.has("rope.scale_linear");
  TSR_TRY(std::string type, keys.text("rope.scaling.type", has_factor ? "linear" : "none"));
  if (type == "none") return RopeScaling::none;
  if (type == "linear") return RopeScaling::linear;
  if (type == "yarn") return RopeScaling::yarn;
  return keys.unsupported(keys.key("rope.scaling.type") + " is " + quote(type) +
                          "; supported are none, linear and yarn");
}

Result<void> read_rope(const Keys& keys, DecoderConfig& c) {
  RopeConfig& rope = c.rope;
  TSR_TRY(rope.dims, keys.count("rope.dimension_count", c.head_dim, 2, c.head_dim));
  if (rope.dims % 2 != 0)
    return keys.bad(keys.key("rope.dimension_count") + " is " + std::to_string(rope.dims) + ", must be even");
  TSR_TRY(rope.base, keys.real("rope.freq_base", 10000, 1.001, 1e15));
  TSR_TRY(rope.scaling, read_scaling_type(keys));
  TSR_TRY(double legacy, keys.real("rope.scale_linear", 1, 0, 1e6));
  TSR_TRY(rope.factor, keys.real("rope.scaling.factor", legacy, 0, 1e6));
  if (rope.factor == 0) rope.factor = 1;  // written by converters for "not scaled"
  TSR_TRY(std::uint32_t original,
          keys.count("rope.scaling.original_context_length", c.context, 1, kMaxContext));
  rope.original_context = original;
  TSR_TRY(double attn, keys.real("rope.scaling.attn_factor", 1, 0, 100));
  TSR_TRY(double yarn_attn, keys.real("rope.scaling.yarn_attn_factor", 1, 0, 100));
  rope.attn_factor = attn * (rope.scaling == RopeScaling::yarn ? yarn_attn : 1);
  TSR_TRY(rope.ext_factor, keys.real("rope.scaling.yarn_ext_factor", 1, 0, 1));
  TSR_TRY(rope.beta_fast, keys.real("rope.scaling.yarn_beta_fast", 32, 1e-3, 1e6));
  TSR_TRY(rope.beta_slow, keys.real("rope.scaling.yarn_beta_slow", 1, 1e-3, 1e6));
  TSR_TRY(double log_multiplier, keys.real("rope.scaling.yarn_log_multiplier", 0, 0, 100));
  if (rope.scaling == RopeScaling::yarn && log_multiplier != 0)
    return keys.unsupported(keys.key("rope.scaling.yarn_log_multiplier") + " is not supported");
  return {};
}

Result<void> read_freq_factors(const Keys& keys, RopeConfig& rope) {
  const ModelFile& file = keys.file();
  constexpr const char* kName = "rope_freqs.weight";
  if (!has_tensor(file, kName)) return {};
  TSR_TRY(const TensorInfo* tensor, file.require(kName));
  if (tensor->elems() != rope.dims / 2)
    return keys.bad(std::string("tensor ") + kName + " has " + std::to_string(tensor->elems()) +
                    " elements, but RoPE turns " + std::to_string(rope.dims / 2) + " pairs");
  TSR_TRY(rope.freq_factors, read_floats(file, *tensor));
  for (float f : rope.freq_factors)
    if (!(f > 0) || !std::isfinite(f))
      return keys.bad(std::string("tensor ") + kName + " holds " + number(static_cast<double>(f)) +
                      ", must be positive");
  return {};
}

// What the metadata says against the tensors that no layer owns.
Result<void> check_tensors(const Keys& keys, DecoderConfig& c) {
  const ModelFile& file = keys.file();
  TSR_TRY(const TensorInfo* embedding, file.require("token_embd.weight"));
  if (embedding->shape.size() != 2 || embedding->shape[1] != c.dim)
    return keys.bad("tensor token_embd.weight does not have rows of " + keys.key("embedding_length") + " = " +
                    std::to_string(c.dim));
  if (embedding->shape[0] == 0 || embedding->shape[0] > kMaxVocab)
    return keys.bad("tensor token_embd.weight has " + std::to_string(embedding->shape[0]) + " rows");
  c.vocab = static_cast<std::uint32_t>(embedding->shape[0]);
  TSR_TRY(std::uint32_t vocab, keys.count("vocab_size", c.vocab, 1, kMaxVocab));
  if (vocab != c.vocab)
    return keys.bad(keys.key("vocab_size") + " is " + std::to_string(vocab) + ", but token_embd.weight has " +
                    std::to_string(c.vocab) + " rows");
  TSR_TRY(const auto* tokens, file.get_strings("tokenizer.ggml.tokens"));
  if (tokens && tokens->size() != c.vocab)
    return keys.bad("tokenizer.ggml.tokens has " + std::to_string(tokens->size()) +
                    " entries, but token_embd.weight has " + std::to_string(c.vocab) + " rows");
  const std::string beyond = "blk." + std::to_string(c.layers) + ".attn_norm.weight";
  if (has_tensor(file, beyond))
    return keys.bad(keys.key("block_count") + " is " + std::to_string(c.layers) + ", but there is a tensor " +
                    beyond);
  c.tied_output = !has_tensor(file, "output.weight");
  return {};
}

std::string known_architectures() {
  std::string text;
  for (const DecoderFamily* family : kFamilies)
    for (std::string_view name : family->architectures)
      text += (text.empty() ? "" : ", ") + std::string(name);
  return text;
}

}  // namespace

const DecoderFamily* find_family(std::string_view architecture) {
  for (const DecoderFamily* family : kFamilies)
    if (std::ranges::find(family->architectures, architecture) != family->architectures.end()) return family;
  return nullptr;
}

Result<DecoderConfig> read_decoder_config(const ModelFile& file) {
  if (file.kind() != FileKind::gguf)
    return model_error(file, Code::unsupported, "models run from GGUF files; this is safetensors");
  DecoderConfig c;
  TSR_TRY(c.architecture, file.get_string("general.architecture"));
  const DecoderFamily* family = find_family(c.architecture);
  if (!family)
    return model_error(
        file, Code::unsupported,
        "general.architecture is " + quote(c.architecture) + "; supported are " + known_architectures());
  TSR_TRY(c.name, file.get_string("general.name", ""));
  c.rope_adjacent = family->rope_adjacent;
  const Keys keys(file, c.architecture);
  TSR_CHECK(read_dimensions(keys, c));
  TSR_CHECK(read_attention(keys, c));
  TSR_CHECK(read_rope(keys, c));
  TSR_CHECK(read_freq_factors(keys, c.rope));
  TSR_CHECK(check_tensors(keys, c));
  return c;
}

}  // namespace tessera
