#include "models/transformer.h"

#include <cmath>

#include "models/builder.h"
#include "models/tensors.h"

namespace tessera {
namespace {

constexpr std::uint64_t kMaxVocab = std::uint64_t{1} << 24;

// y = x w^T + b
struct Linear {
  ValueId weight = kNoValue, bias = kNoValue;
};
struct LayerNorm {
  ValueId gamma = kNoValue, beta = kNoValue;  // both or neither
};
struct AttentionWeights {
  LayerNorm norm;
  Linear q, k, v, out;
};
struct BlockWeights {
  AttentionWeights self, cross;  // cross: decoder layers alone
  LayerNorm ffn_norm;
  Linear up, down;
};
struct StackWeights {
  ValueId embedding = kNoValue;
  std::uint32_t vocab = 0;
  std::vector<BlockWeights> layers;
  LayerNorm norm;
};
struct TransformerWeights {
  StackWeights encoder, decoder;
  Linear projection;
};

class WeightsReader {
 public:
  WeightsReader(const ModelFile& file, Program& program, const TransformerConfig& config)
      : file_(file), tensors_(file, program), config_(config) {}

  Result<TransformerWeights> read() {
    TransformerWeights w;
    TSR_TRY(w.encoder, stack("encoder", config_.encoder_layers, false));
    TSR_TRY(w.decoder, stack("decoder", config_.decoder_layers, true));
    TSR_TRY(w.projection, projection(w.decoder.vocab));
    return w;
  }
  const TensorSlices& slices() const { return tensors_.slices(); }

 private:
  Result<StackWeights> stack(const std::string& name, std::uint32_t layers, bool decoder) {
    StackWeights w;
    const std::string embedding = name + "/embeddings/weight";
    TSR_TRY(const TensorInfo* tensor, file_.require(embedding));
    const std::uint64_t vocab = tensor->shape.empty() ? 0 : tensor->shape[0];
    TSR_TRY(w.embedding, tensors_.matrix(embedding, vocab, config_.dim));
    if (vocab == 0 || vocab > kMaxVocab)
      return model_error(file_, Code::bad_model,
                         "tensor " + embedding + " has " + std::to_string(vocab) + " rows, not 1 to " +
                             std::to_string(kMaxVocab));
    w.vocab = static_cast<std::uint32_t>(vocab);
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      TSR_TRY(BlockWeights b, block(name + "/layer_" + std::to_string(layer), decoder));
      w.layers.push_back(b);
    }
    // What the last of the post-norm layers gives is normalised already; a file may do it once more.
    const std::string norm_name = name + "/layer_norm";
    if (config_.pre_norm || has_tensor(file_, norm_name + "/gamma")) {
      TSR_TRY(w.norm, norm(norm_name));
    }
    return w;
  }

  Result<BlockWeights> block(const std::string& name, bool decoder) {
    BlockWeights b;
    const std::uint32_t d = config_.dim;
    const std::string self = name + "/self_attention", cross = name + "/attention", ffn = name + "/ffn";
    TSR_TRY(b.self.norm, norm(self + "/layer_norm"));
    TSR_TRY(b.self.q, linear(self + "/linear_0", 3 * d, d, 0, d));
    TSR_TRY(b.self.k, linear(self + "/linear_0", 3 * d, d, d, d));
    TSR_TRY(b.self.v, linear(self + "/linear_0", 3 * d, d, 2 * d, d));
    TSR_TRY(b.self.out, linear(self + "/linear_1", d, d, 0, d));
    if (decoder) {
      TSR_TRY(b.cross.norm, norm(cross + "/layer_norm"));
      TSR_TRY(b.cross.q, linear(cross + "/linear_0", d, d, 0, d));
      TSR_TRY(b.cross.k, linear(cross + "/linear_1", 2 * d, d, 0, d));
      TSR_TRY(b.cross.v, linear(cross + "/linear_1", 2 * d, d, d, d));
      TSR_TRY(b.cross.out, linear(cross + "/linear_2", d, d, 0, d));
    }
    TSR_TRY(b.ffn_norm, norm(ffn + "/layer_norm"));
    TSR_TRY(b.up, linear(ffn + "/linear_0", config_.ffn_dim, d, 0, config_.ffn_dim));
    TSR_TRY(b.down, linear(ffn + "/linear_1", d, config_.ffn_dim, 0, d));
    return b;
  }

  Result<LayerNorm> norm(const std::string& name) {
    LayerNorm n;
    TSR_TRY(n.gamma, tensors_.vector(name + "/gamma", config_.dim));
    TSR_TRY(n.beta, tensors_.vector(name + "/beta", config_.dim));
    return n;
  }

  // Rows [first, first+n) of a product with `total` outputs; the bias may be absent.
  Result<Linear> linear(const std::string& name, std::uint32_t total, std::uint32_t k, std::uint32_t first,
                        std::uint32_t n) {
    const std::string weight = name + "/weight", bias = name + "/bias";
    const bool whole = n == total, has_bias = has_tensor(file_, bias);
    Linear l;
    if (whole) {
      TSR_TRY(l.weight, tensors_.matrix(weight, n, k));
      TSR_TRY(l.bias, tensors_.optional_vector(bias, n));
    } else {
      TSR_TRY(l.weight, tensors_.rows(weight, total, k, first, n));
      if (has_bias) {
        TSR_TRY(l.bias, tensors_.rows(bias, total, 0, first, n));
      }
    }
    return l;
  }

  // The embedding's matrix where the file has no other.
  Result<Linear> projection(std::uint32_t vocab) {
    const std::string name = "decoder/projection";
    if (has_tensor(file_, name + "/weight")) return linear(name, vocab, config_.dim, 0, vocab);
    Linear l;
    TSR_TRY(l.weight, tensors_.matrix("decoder/embeddings/weight", vocab, config_.dim));
    TSR_TRY(l.bias, tensors_.optional_vector(name + "/bias", vocab));
    return l;
  }

  const ModelFile& file_;
  ModelTensors tensors_;
  const TransformerConfig& config_;
};

class TransformerBuilder {
 public:
  TransformerBuilder(Program& program, const TransformerWeights& weights, TransformerProgram& t)
      : program_(program), weights_(weights), t_(t), config_(t.config) {}

  void add_values() {
    const std::uint64_t heads = config_.heads, head_dim = config_.dim / config_.heads;
    t_.source = add("source", Storage::input, DType::u32, {t_.max_source});
    t_.target = add("target", Storage::input, DType::u32, {t_.beams});
    t_.state = program_.state = add("state", Storage::input, DType::u32, {8});
    t_.lengths = add("lengths", Storage::input, DType::u32, {t_.beams});
    t_.table = add("table", Storage::input, DType::u32, {t_.beams, t_.max_target});
    const std::uint32_t rows = std::max(t_.max_source, t_.max_target);
    positions_ = add("positions", Storage::constant, DType::f32, {rows, config_.dim});
    program_.values[positions_].data = std::make_shared<const std::vector<float>>(sinusoids(config_, rows));
    for (std::uint32_t layer = 0; layer < config_.decoder_layers; ++layer) {
      const std::string prefix = "decoder/layer_" + std::to_string(layer) + "/";
      const std::uint64_t blocks = std::uint64_t{t_.beams} * t_.max_target;
      t_.k_caches.push_back(
          add(prefix + "k_cache", Storage::cache, DType::f32, {blocks, heads, 1, head_dim}));
      t_.v_caches.push_back(
          add(prefix + "v_cache", Storage::cache, DType::f32, {blocks, heads, 1, head_dim}));
      for (auto* values : {&t_.cross_keys, &t_.cross_values}) {
        values->push_back(add(prefix + (values == &t_.cross_keys ? "cross_k" : "cross_v"), Storage::output,
                              DType::f32, {t_.max_source, config_.dim}));
        program_.values[values->back()].dynamic_rows = true;
      }
    }
    t_.logits = add("logits", Storage::output, DType::f32, {t_.beams, t_.target_vocab});
  }

  void add_encoder() {
    GraphBuilder g(program_, "encode", t_.max_source, true);
    ValueId x = embed(g, "encoder/embeddings", t_.source, weights_.encoder.embedding, false);
    for (std::uint32_t layer = 0; layer < config_.encoder_layers; ++layer) {
      const BlockWeights& w = weights_.encoder.layers[layer];
      const std::string prefix = "encoder/layer_" + std::to_string(layer) + "/";
      x = block(g, prefix + "self_attention/", w.self.norm, x, [&](const std::string& name, ValueId h) {
        const ValueId q = product(g, name + "q", w.self.q, h), k = product(g, name + "k", w.self.k, h);
        return product(g, name + "out", w.self.out,
                       attend_source(g, name, q, k, product(g, name + "v", w.self.v, h)));
      });
      x = feed_forward(g, prefix + "ffn/", w, x);
    }
    x = final_norm(g, "encoder/layer_norm", weights_.encoder.norm, x);
    for (std::uint32_t layer = 0; layer < config_.decoder_layers; ++layer) {
      const AttentionWeights& w = weights_.decoder.layers[layer].cross;
      const std::string prefix = "decoder/layer_" + std::to_string(layer) + "/attention/";
      product(g, prefix + "k", w.k, x, t_.cross_keys[layer]);
      product(g, prefix + "v", w.v, x, t_.cross_values[layer]);
    }
    t_.encode = g.finish();
  }

  void add_decoder() {
    GraphBuilder g(program_, "decode", 1, false);
    ValueId x = embed(g, "decoder/embeddings", t_.target, weights_.decoder.embedding, true);
    for (std::uint32_t layer = 0; layer < config_.decoder_layers; ++layer) {
      const BlockWeights& w = weights_.decoder.layers[layer];
      const std::string prefix = "decoder/layer_" + std::to_string(layer) + "/";
      x = block(g, prefix + "self_attention/", w.self.norm, x, [&](const std::string& name, ValueId h) {
        const ValueId q = product(g, name + "q", w.self.q, h), k = product(g, name + "k", w.self.k, h);
        const ValueId v = product(g, name + "v", w.self.v, h);
        return product(g, name + "out", w.self.out, attend_past(g, name, layer, q, k, v));
      });
      x = block(g, prefix + "attention/", w.cross.norm, x, [&](const std::string& name, ValueId h) {
        return product(g, name + "out", w.cross.out,
                       attend_across(g, name, layer, product(g, name + "q", w.cross.q, h)));
      });
      x = feed_forward(g, prefix + "ffn/", w, x);
    }
    x = final_norm(g, "decoder/layer_norm", weights_.decoder.norm, x);
    product(g, "decoder/projection", weights_.projection, x, t_.logits);
    t_.decode = g.finish();
  }

 private:
  ValueId add(const std::string& name, Storage storage, DType dtype, std::vector<std::uint64_t> shape) {
    return add_value(program_, name, storage, dtype, std::move(shape));
  }

  static ValueId product(GraphBuilder& g, const std::string& name, const Linear& w, ValueId x,
                         ValueId out = kNoValue) {
    return g.matmul(name, x, w.weight, w.bias, out);
  }

  ValueId embed(GraphBuilder& g, const std::string& name, ValueId tokens, ValueId table, bool batch) {
    OpAttrs attrs;
    if (config_.scale_embedding)
      attrs.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(config_.dim)));
    attrs.batch = batch;
    return g.embedding(name, tokens, table, positions_, attrs);
  }

  ValueId normed(GraphBuilder& g, const std::string& name, const LayerNorm& w, ValueId x) {
    return g.layer_norm(name, x, w.gamma, w.beta, config_.eps);
  }
  ValueId final_norm(GraphBuilder& g, const std::string& name, const LayerNorm& w, ValueId x) {
    return w.gamma == kNoValue ? x : normed(g, name, w, x);
  }

  // x + body(norm(x)), or norm(x + body(x)).
  template <typename Body>
  ValueId block(GraphBuilder& g, const std::string& name, const LayerNorm& w, ValueId x, const Body& body) {
    const ValueId h = config_.pre_norm ? normed(g, name + "layer_norm", w, x) : x;
    const ValueId sum = g.add(name + "sum", x, body(name, h));
    return config_.pre_norm ? sum : normed(g, name + "layer_norm", w, sum);
  }

  ValueId feed_forward(GraphBuilder& g, const std::string& prefix, const BlockWeights& w, ValueId x) {
    return block(g, prefix, w.ffn_norm, x, [&](const std::string& name, ValueId h) {
      const ValueId up = product(g, name + "up", w.up, h);
      return product(g, name + "down", w.down, g.activation(name + "act", up, config_.activation));
    });
  }

  AttentionAttrs attention_attrs(std::uint32_t batch, std::uint32_t q_len, std::uint32_t kv_len) const {
    AttentionAttrs a;
    a.batch = batch;
    a.q_len = q_len;
    a.kv_len = kv_len;
    a.heads = a.kv_heads = config_.heads;
    a.head_dim = a.v_dim = config_.dim / config_.heads;
    a.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(a.head_dim)));
    return a;
  }

  // Every source position sees all of them.
  ValueId attend_source(GraphBuilder& g, const std::string& name, ValueId q, ValueId k, ValueId v) const {
    return g.attention(name + "attn", q, k, v, attention_attrs(1, t_.max_source, t_.max_source),
                       {.state = t_.state});
  }

  // Each beam sees its own past.
  ValueId attend_past(GraphBuilder& g, const std::string& name, std::uint32_t layer, ValueId q, ValueId k,
                      ValueId v) const {
    AttentionAttrs a = attention_attrs(t_.beams, 1, t_.max_target);
    a.cache = true;
    a.block_size = 1;
    OpAttrs append;
    append.kv_heads = a.kv_heads;
    append.head_dim = a.head_dim;
    append.attention = a;
    g.kv_append(name + "k_append", k, t_.k_caches[layer], append, t_.table);
    g.kv_append(name + "v_append", v, t_.v_caches[layer], append, t_.table);
    return g.attention(name + "attn", q, t_.k_caches[layer], t_.v_caches[layer], a,
                       {.state = t_.state, .table = t_.table});
  }

  // All beams see the one source.
  ValueId attend_across(GraphBuilder& g, const std::string& name, std::uint32_t layer, ValueId q) const {
    AttentionAttrs a = attention_attrs(t_.beams, 1, t_.max_source);
    a.k_strides = a.v_strides = {0, a.head_dim, config_.dim, 1};
    return g.attention(name + "attn", q, t_.cross_keys[layer], t_.cross_values[layer], a,
                       {.lengths = t_.lengths});
  }

  Program& program_;
  const TransformerWeights& weights_;
  TransformerProgram& t_;
  const TransformerConfig& config_;
  ValueId positions_ = kNoValue;
};

Result<void> check_options(const TransformerOptions& o, const TransformerConfig& config,
                           std::uint32_t target_vocab) {
  const auto check = [](const char* name, std::uint32_t value, std::uint32_t most) -> Result<void> {
    if (value >= 1 && value <= most) return {};
    return Error{Code::invalid_argument, std::string(name) + " must be from 1 to " + std::to_string(most) +
                                             ", not " + std::to_string(value)};
  };
  TSR_CHECK(check("beams", o.beams, std::min(64u, target_vocab)));
  TSR_CHECK(check("max_source", o.max_source, 1 << 16));
  TSR_CHECK(check("max_target", o.max_target, 1 << 16));
  for (const auto& [name, id] : {std::pair("bos_id", config.bos), std::pair("eos_id", config.eos)})
    if (id >= target_vocab)
      return Error{Code::bad_model, "config.json: \"" + std::string(name) + "\" is " + std::to_string(id) +
                                        ", outside the target vocabulary of " + std::to_string(target_vocab)};
  return {};
}

}  // namespace

Result<TransformerProgram> build_transformer(std::shared_ptr<const ModelFile> weights,
                                             const TransformerConfig& config,
                                             const TransformerOptions& options) {
  TransformerProgram t;
  t.config = config;
  t.beams = options.beams;
  t.max_source = options.max_source;
  t.max_target = options.max_target;
  auto program = std::make_shared<Program>();
  WeightsReader reader(*weights, *program, config);
  TSR_TRY(const TransformerWeights tensors, reader.read());
  t.source_vocab = tensors.encoder.vocab;
  t.target_vocab = tensors.decoder.vocab;
  TSR_CHECK(check_options(options, config, t.target_vocab));
  program->weights = file_weights(std::move(weights), reader.slices());
  TransformerBuilder builder(*program, tensors, t);
  builder.add_values();
  builder.add_encoder();
  builder.add_decoder();
  set_precision(*program, options.precision);
  TSR_CHECK(program->check());
  t.program = std::move(program);
  return t;
}

}  // namespace tessera
