#include "models/decoder.h"

#include <algorithm>

#include "models/builder.h"
#include "models/family.h"

namespace tessera {

Result<BlockWeights> read_block(ModelTensors& tensors, const DecoderConfig& config, std::uint32_t layer) {
  const std::string prefix = "blk." + std::to_string(layer) + ".";
  const std::uint64_t q_dim = std::uint64_t{config.heads} * config.head_dim;
  const std::uint64_t kv_dim = std::uint64_t{config.kv_heads} * config.head_dim;
  BlockWeights w;
  TSR_TRY(w.attn_norm, tensors.vector(prefix + "attn_norm.weight", config.dim));
  TSR_TRY(w.q, tensors.matrix(prefix + "attn_q.weight", q_dim, config.dim));
  TSR_TRY(w.k, tensors.matrix(prefix + "attn_k.weight", kv_dim, config.dim));
  TSR_TRY(w.v, tensors.matrix(prefix + "attn_v.weight", kv_dim, config.dim));
  TSR_TRY(w.out, tensors.matrix(prefix + "attn_output.weight", config.dim, q_dim));
  TSR_TRY(w.ffn_norm, tensors.vector(prefix + "ffn_norm.weight", config.dim));
  TSR_TRY(w.gate, tensors.matrix(prefix + "ffn_gate.weight", config.hidden, config.dim));
  TSR_TRY(w.up, tensors.matrix(prefix + "ffn_up.weight", config.hidden, config.dim));
  TSR_TRY(w.down, tensors.matrix(prefix + "ffn_down.weight", config.dim, config.hidden));
  return w;
}

namespace {

struct DecoderWeights {
  ValueId embedding = kNoValue;
  ValueId output_norm = kNoValue;
  ValueId output = kNoValue;  // the embedding when tied
  std::vector<BlockWeights> blocks;
};

Result<DecoderWeights> read_weights(ModelTensors& tensors, const DecoderConfig& config) {
  const DecoderFamily* family = find_family(config.architecture);  // read_decoder_config found it
  DecoderWeights w;
  TSR_TRY(w.embedding, tensors.matrix("token_embd.weight", config.vocab, config.dim));
  TSR_TRY(w.output_norm, tensors.vector("output_norm.weight", config.dim));
  w.output = w.embedding;
  if (!config.tied_output) {
    TSR_TRY(w.output, tensors.matrix("output.weight", config.vocab, config.dim));
  }
  for (std::uint32_t layer = 0; layer < config.layers; ++layer) {
    TSR_TRY(BlockWeights block, family->block(tensors, config, layer));
    w.blocks.push_back(block);
  }
  return w;
}

// The three graphs over one set of weights, caches and inputs.
class DecoderBuilder {
 public:
  DecoderBuilder(Program& program, const DecoderWeights& weights, DecoderProgram& d)
      : program_(program), weights_(weights), d_(d), config_(d.config) {}

  void add_inputs(bool all_logits) {
    d_.tokens = add("tokens", Storage::input, DType::u32, {std::uint64_t{d_.context} + 1});
    d_.state = program_.state = add("state", Storage::input, DType::u32, {8});
    d_.sampler = add("sampler", Storage::input, DType::u32, {8});
    rope_table_ = add("rope_table", Storage::constant, DType::f32, {d_.context, config_.rope.dims / 2, 2});
    program_.values[rope_table_].data =
        std::make_shared<const std::vector<float>>(rope_table(config_.rope, d_.context));
    for (std::uint32_t layer = 0; layer < config_.layers; ++layer)
      for (auto* caches : {&d_.k_caches, &d_.v_caches})
        caches->push_back(
            add("blk." + std::to_string(layer) + (caches == &d_.k_caches ? ".k_cache" : ".v_cache"),
                Storage::cache, d_.kv_type, {config_.kv_heads, d_.context, config_.head_dim}));
    d_.last_hidden = add("last_hidden", Storage::output, DType::f32, {1, config_.dim});
    d_.logits = add("logits", Storage::output, DType::f32, {1, config_.vocab});
    if (!all_logits) return;
    d_.all_logits = add("all_logits", Storage::output, DType::f32, {d_.chunk, config_.vocab});
    program_.values[d_.all_logits].dynamic_rows = true;
  }

  void add_graphs() {
    GraphBuilder prefill(program_, "prefill", d_.chunk, true);
    const ValueId x = layers(prefill);
    prefill.last_row(x, d_.last_hidden);
    if (d_.all_logits != kNoValue) logits(prefill, x, d_.all_logits);
    prefill.advance();
    d_.prefill = prefill.finish();

    GraphBuilder head(program_, "head", 1, false);
    logits(head, d_.last_hidden, d_.logits);
    head.sample(d_.logits, d_.tokens, d_.sampler);
    d_.head = head.finish();

    GraphBuilder decode(program_, "decode", 1, false);
    logits(decode, layers(decode), d_.logits);
    decode.sample(d_.logits, d_.tokens, d_.sampler);
    d_.decode = decode.finish();
  }

 private:
  ValueId add(const std::string& name, Storage storage, DType dtype, std::vector<std::uint64_t> shape) {
    return add_value(program_, name, storage, dtype, std::move(shape));
  }

  ValueId layers(GraphBuilder& g) {
    ValueId x = g.embedding("embedding", d_.tokens, weights_.embedding);
    for (std::uint32_t layer = 0; layer < config_.layers; ++layer) {
      const std::string prefix = "blk." + std::to_string(layer) + ".";
      x = attention(g, prefix, layer, x);
      x = feed_forward(g, prefix, weights_.blocks[layer], x);
    }
    return x;
  }

  ValueId attention(GraphBuilder& g, const std::string& prefix, std::uint32_t layer, ValueId x) {
    const BlockWeights& w = weights_.blocks[layer];
    OpAttrs head;
    head.head_dim = config_.head_dim;
    OpAttrs turn = head;
    turn.rope_dims = config_.rope.dims;
    turn.rope_adjacent = config_.rope_adjacent;

    const ValueId h = g.rms_norm(prefix + "attn_norm", x, w.attn_norm, config_.eps);
    ValueId q = g.matmul(prefix + "attn_q", h, w.q, w.q_bias);
    ValueId k = g.matmul(prefix + "attn_k", h, w.k, w.k_bias);
    const ValueId v = g.matmul(prefix + "attn_v", h, w.v, w.v_bias);
    turn.heads = config_.heads;
    q = g.rope(prefix + "attn_q_rope", q, rope_table_, turn);
    turn.heads = config_.kv_heads;
    k = g.rope(prefix + "attn_k_rope", k, rope_table_, turn);
    head.kv_heads = config_.kv_heads;
    g.kv_append(prefix + "attn_k_append", k, d_.k_caches[layer], head);
    g.kv_append(prefix + "attn_v_append", v, d_.v_caches[layer], head);
    AttentionAttrs a;
    a.q_len = g.max_rows();
    a.kv_len = d_.context;
    a.heads = config_.heads;
    a.kv_heads = config_.kv_heads;
    a.head_dim = a.v_dim = config_.head_dim;
    a.scale = config_.attention_scale;
    a.causal = Causal::bottom_right;
    if (config_.window != 0 && config_.window < d_.context) a.window_left = config_.window - 1;
    a.cache = true;
    const ValueId o =
        g.attention(prefix + "attn", q, d_.k_caches[layer], d_.v_caches[layer], a, {.state = program_.state});
    return g.add(prefix + "attn_sum", x, g.matmul(prefix + "attn_output", o, w.out, w.out_bias));
  }

  ValueId feed_forward(GraphBuilder& g, const std::string& prefix, const BlockWeights& w, ValueId x) {
    const ValueId h = g.rms_norm(prefix + "ffn_norm", x, w.ffn_norm, config_.eps);
    const ValueId gate = g.matmul(prefix + "ffn_gate", h, w.gate, w.gate_bias);
    const ValueId up = g.matmul(prefix + "ffn_up", h, w.up, w.up_bias);
    const ValueId hidden = g.glu(prefix + "ffn_hidden", gate, up, Activation::silu);
    return g.add(prefix + "ffn_sum", x, g.matmul(prefix + "ffn_down", hidden, w.down, w.down_bias));
  }

  void logits(GraphBuilder& g, ValueId x, ValueId out) {
    const ValueId h = g.rms_norm("output_norm", x, weights_.output_norm, config_.eps);
    g.matmul("output", h, weights_.output, kNoValue, out);
  }

  Program& program_;
  const DecoderWeights& weights_;
  DecoderProgram& d_;
  const DecoderConfig& config_;
  ValueId rope_table_ = kNoValue;
};

Result<void> apply_options(const DecoderOptions& options, const Program& program, DecoderProgram& d) {
  constexpr std::uint32_t kDefaultContext = 4096;
  d.context = options.context ? options.context : std::min(d.config.context, kDefaultContext);
  if (d.context > d.config.context)
    return Error{Code::invalid_argument, "a context of " + std::to_string(d.context) +
                                             " positions is more than the model's " +
                                             std::to_string(d.config.context)};
  if (options.chunk == 0) return Error{Code::invalid_argument, "a prefill chunk of 0 rows"};
  d.chunk = std::min(options.chunk, d.context);
  const bool all_f32 =
      std::ranges::all_of(program.values, [](const Value& v) { return v.dtype == DType::f32; });
  d.kv_type = options.kv_type.value_or(all_f32 ? DType::f32 : DType::f16);
  if (d.kv_type != DType::f32 && d.kv_type != DType::f16)
    return Error{Code::invalid_argument,
                 "the KV cache is F32 or F16, not " + std::string(info(d.kv_type).name)};
  return {};
}

}  // namespace

Result<DecoderProgram> build_decoder(std::shared_ptr<const ModelFile> file, const DecoderOptions& options) {
  DecoderProgram d;
  TSR_TRY(d.config, read_decoder_config(*file));
  auto program = std::make_shared<Program>();
  ModelTensors tensors(*file, *program);
  TSR_TRY(const DecoderWeights weights, read_weights(tensors, d.config));
  TSR_CHECK(apply_options(options, *program, d));
  program->weights = file_weights(std::move(file));
  DecoderBuilder builder(*program, weights, d);
  builder.add_inputs(options.all_logits);
  builder.add_graphs();
  set_precision(*program, options.precision);
  TSR_CHECK(program->check());
  d.program = std::move(program);
  return d;
}

}  // namespace tessera
