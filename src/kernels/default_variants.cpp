#include "kernels/default_variants.h"

#include <cmath>
#include <set>

#include "kernels/attention_shape.h"

namespace tessera {
namespace {

// The sizes of a model of 1 to 8 thousand million parameters.
constexpr std::uint32_t kDim = 4096, kVocab = 32000, kContext = 4096, kPrompt = 512;
constexpr std::uint32_t kHeads = 32, kKvHeads = 8;

std::string type_name(DType type) {
  std::string out(info(type).name);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

class List {
 public:
  explicit List(const Target& target) : target_(target) {}

  std::vector<Variant> run() {
    embeddings();
    norms();
    matmuls();
    layers();
    feed_forwards();
    mlps();
    elementwise();
    ropes();
    attentions();
    linear_attentions();
    add("last_row", "", choose_last_row(kDim, false, target_));
    add("last_row", "residual", choose_last_row(kDim, true, target_));
    add("softmax", "rows", choose_softmax({.outer = kPrompt, .n = kContext}, target_));
    add("advance", "", choose_advance(64, target_));
    add("probe", "", choose_probe(1, target_));
    add("sample", "32000 ids", choose_sample(kVocab, kContext, target_));
    return std::move(out_);
  }

 private:
  void add(const char* family, std::string name, Result<Dispatch> dispatch) {
    out_.push_back({family, std::move(name), std::move(dispatch)});
  }

  void embeddings() {
    for (const DType type : kWeightTypes)
      add("embedding", type_name(type),
          choose_embedding({.rows = kPrompt, .dim = kDim, .type = type, .count = 1024}, target_));
  }

  void norms() {
    NormShape shape{.rows = kPrompt, .dim = kDim, .dynamic_rows = true, .eps = 1e-5f};
    add("norm", "rms", choose_norm(shape, target_));
    shape.residual = true;
    add("norm", "rms, residual", choose_norm(shape, target_));
    shape.layer_norm = shape.bias = true;
    add("norm", "layer, bias, residual", choose_norm(shape, target_));
  }

  void matmuls() {
    for (const DType type : kWeightTypes)
      for (const std::uint32_t rows : {1u, 8u, kPrompt}) {
        MatmulShape shape{
            .rows = rows, .n = kDim, .k = kDim, .y_stride = kDim, .dynamic_rows = true, .type = type};
        const std::string name =
            type_name(type) + ", " + std::to_string(rows) + (rows == 1 ? " row" : " rows");
        add("matmul", name, choose_matmul(shape, target_));
        if (rows == 8) continue;
        shape.gated = true;
        shape.act = 1;  // silu
        add("matmul", name + ", gated", choose_matmul(shape, target_));
      }
    for (const std::uint32_t rows : {1u, 16u, kPrompt}) {
      MatmulShape shape{.rows = rows, .n = kDim, .k = kDim, .y_stride = kDim, .dynamic_rows = true};
      shape.type = DType::q5_k;
      add("matmul", "everything, " + std::to_string(rows) + (rows == 1 ? " row" : " rows"),
          choose_matmul(with_everything(shape), target_));
    }
    if (target_.caps.coopmat2) mixed_matmuls("matmul_coopmat2");
    if (target_.caps.coopmat) mixed_matmuls("matmul_coopmat");
    if (target_.caps.int_dot_fast) mixed_matmuls("matmul_dot");
  }

  // All that an epilogue and loads can do.
  static MatmulShape with_everything(MatmulShape shape) {
    shape.act = 3;  // gelu, by erf
    shape.gated = shape.bias = shape.residual = true;
    shape.scale = 0.5f;
    shape.x_type = shape.y_type = DType::f16;
    shape.batch = 2;
    shape.x_batch = shape.y_batch = shape.rows * kDim;
    return shape;
  }

  // A form in precision mixed, whatever else the device prefers: measured rates may choose it.
  void mixed_matmuls(const char* form) {
    for (const DType type : kWeightTypes)
      for (const bool gated : {false, true}) {
        if (gated && type != DType::f32 && type != DType::f16 && type != DType::q4_k) continue;
        MatmulShape shape{
            .rows = kPrompt, .n = kDim, .k = kDim, .y_stride = kDim, .dynamic_rows = true, .type = type};
        shape.precision = Precision::mixed;
        shape.gated = gated;
        shape.act = gated ? 1 : 0;
        mixed_matmul(form, type_name(type) + (gated ? ", gated" : "") + ", 512 rows", shape);
        if (gated)
          mixed_matmul(form, "everything, " + type_name(type) + ", 512 rows", with_everything(shape));
        if ((type == DType::f16 || type == DType::q4_0) && !gated) {
          MatmulShape halves = shape;
          halves.rows = kDim;
          halves.x_type = halves.y_type = DType::f16;
          mixed_matmul(form, type_name(type) + ", f16 activations, 4096 rows", halves);
        }
        if (std::string_view(form) != "matmul_dot") continue;
        for (const std::uint32_t rows : {1u, 8u}) {
          shape.rows = rows;
          const std::string of = std::to_string(rows) + (rows == 1 ? " row" : " rows");
          mixed_matmul(form, type_name(type) + (gated ? ", gated, " : ", ") + of, shape);
          if (gated) mixed_matmul(form, "everything, " + type_name(type) + ", " + of, with_everything(shape));
        }
      }
  }

  void mixed_matmul(const char* form, const std::string& name, const MatmulShape& shape) {
    Target target = target_;
    target.form = form;
    const Result<MatmulChoice> choice = choose_matmul_call(shape, target);
    if (!choice) return;                          // its reasons are those of the device, not of this list
    for (const Dispatch& d : choice->dispatches)  // x is quantised in two orders
      if (d.kernel != KernelId::quantise_rows || shape.type == DType::q8_0 || shape.type == DType::q4_0)
        add("matmul", name + ", mixed", d);
  }

  // Products with what a decoder layer has around them.
  void layers() {
    for (const DType type : {DType::f16, DType::q4_0, DType::q4_k})
      for (const std::uint32_t rows : {1u, 8u, kPrompt}) {
        MatmulShape shape{.rows = rows,
                          .n = (kHeads + 2 * kKvHeads) * 128,
                          .k = kDim,
                          .dynamic_rows = true,
                          .type = type,
                          .norm = rows <= kMatmulFewRows,
                          .eps = 1e-5f};
        const std::string name =
            type_name(type) + ", " + std::to_string(rows) + (rows == 1 ? " row" : " rows");
        add("qkv_append", "qkv, f16 KV, " + name,
            choose_qkv_append({.product = shape, .append = append_shape(rows, DType::f16)}, target_));
        if (!shape.norm) continue;
        shape.n = shape.y_stride = kDim;
        shape.gated = true;
        shape.act = 1;
        add("matmul", name + ", norm, gated", choose_matmul(shape, target_));
      }
  }

  // The fused block at sizes that it is for, whatever a device would choose; and its partial sums.
  void feed_forwards() {
    Target fused = target_;
    fused.form = "feed_forward_fused";
    for (const DType type : kWeightTypes)
      for (const bool gated : {false, true})
        for (const std::uint32_t dim : {64u, 256u}) {
          if (dim % info(type).block_elems != 0) continue;
          FeedForwardShape shape{
              .rows = kPrompt, .k = dim, .hidden = 4 * dim, .n = dim, .dynamic_rows = true};
          shape.type = shape.down_type = type;
          shape.act = 1;  // silu
          shape.gated = gated;
          choice("feed_forward", type_name(type) + ", " + std::to_string(dim) + (gated ? ", gated" : ""),
                 choose_feed_forward(shape, fused));
        }
    const FeedForwardShape few{.rows = 16, .k = 64, .hidden = 4096, .n = 16, .act = 2};
    choice("feed_forward", "f32, 16 rows", choose_feed_forward(few, fused));
  }

  void mlps() {
    Target fused = target_;
    fused.form = "mlp_fused";
    for (const DType type : kWeightTypes)
      for (const std::uint32_t width : {32u, 256u}) {
        if (width % info(type).block_elems != 0) continue;
        MlpShape shape{.rows = kPrompt, .k = width, .type = type, .weight_bytes = 1};
        shape.layers.assign(4, {.n = width, .act = 4});  // relu
        choice("mlp", type_name(type) + ", 4 layers of " + std::to_string(width), choose_mlp(shape, fused));
      }
  }

  // The dispatches that are its own: products are in the list already.
  void choice(const char* family, const std::string& name, const Result<AttentionChoice>& choice) {
    if (!choice) return add(family, name, choice.error());
    for (const Dispatch& d : choice->dispatches)
      if (kernel(d.kernel).name.starts_with(family)) add(family, name, d);
  }

  void elementwise() {
    const auto one = [&](const char* name, Elementwise kind, std::uint32_t act) {
      add("elementwise", name,
          choose_elementwise({.rows = kPrompt, .dim = kDim, .dynamic_rows = true, .kind = kind, .act = act},
                             target_));
    };
    one("add", Elementwise::add, 0);
    one("activation, gelu", Elementwise::activation, 3);
    one("glu, silu", Elementwise::glu, 1);
  }

  static RopeAppendShape append_shape(std::uint32_t rows, DType kv_type) {
    return {.rows = rows,
            .heads = kHeads,
            .kv_heads = kKvHeads,
            .head_dim = 128,
            .rope_dims = 128,
            .context = kContext,
            .kv_type = kv_type};
  }

  void ropes() {
    RopeAppendShape shape = append_shape(kPrompt, DType::f16);
    add("rope_append", "f16", choose_rope_append(shape, target_));
    add("kv_append", "f16", choose_kv_append(shape, target_));
    shape.kv_type = DType::f32;
    add("rope_append", "f32", choose_rope_append(shape, target_));
    add("rope", "", choose_rope(shape, target_));
  }

  void attentions() {
    for (const std::uint32_t head_dim : {64u, 128u, 256u})
      for (const std::uint32_t rows : {kPrompt, 1u}) attention("f16 KV", attention_shape(head_dim, rows));
    for (const std::uint32_t rows : {kPrompt, 1u}) {
      AttentionShape q8 = attention_shape(128, rows);
      q8.kv_type = DType::q8_0;
      attention("q8_0 KV", q8);
      AttentionShape paged = attention_shape(128, rows);
      paged.attrs.block_size = 16;
      paged.blocks = kContext / 16;
      paged.operands.table = true;
      attention("f16 KV, paged", paged);
      AttentionShape adjusted = attention_shape(128, rows);
      adjusted.attrs.softcap = 50;
      adjusted.attrs.window_left = 1023;
      adjusted.operands.slopes = adjusted.operands.sinks = true;
      adjusted.operands.bias = DType::f16;
      attention("f16 KV, window, soft-cap, slopes, bias, sinks", adjusted);
      AttentionShape additive = attention_shape(64, rows);
      additive.attrs.score = AttentionScore::additive;
      attention("f16 KV, additive", additive);
      AttentionShape listed = attention_shape(128, rows);
      listed.attrs.relative = RelativeBias::distance;
      listed.attrs.q_block = listed.attrs.k_block = 64;
      listed.operands.list_words = list_firsts(listed.attrs) + kContext;
      attention("f16 KV, block lists, relative bias", listed);
    }
    AttentionShape highest = attention_shape(64, 16);  // all scores fit any device's storage range
    highest.attrs.top_k = 64;
    attention("f16 KV, top-k", highest);
    if (target_.caps.coopmat)
      for (const std::uint32_t head_dim : {64u, 128u, 256u}) {
        AttentionShape mixed = attention_shape(head_dim, kPrompt);
        mixed.attrs.precision = Precision::mixed;
        attention("f16 KV, mixed", mixed);
      }
    AttentionShape weights = attention_shape(128, kPrompt);
    weights.attrs.scores = AttentionScores::weights;
    weights.attrs.score_heads = 1;
    attention("f16 KV, weights", weights);
  }

  // A prompt, or a token, over a cache.
  static AttentionShape attention_shape(std::uint32_t head_dim, std::uint32_t rows) {
    AttentionShape shape;
    shape.attrs = {.q_len = rows,
                   .kv_len = kContext,
                   .heads = kHeads,
                   .kv_heads = kKvHeads,
                   .head_dim = head_dim,
                   .v_dim = head_dim,
                   .scale = 1 / std::sqrt(static_cast<float>(head_dim)),
                   .causal = Causal::bottom_right,
                   .cache = true};
    shape.operands.state = true;
    shape.kv_type = DType::f16;
    return shape;
  }

  void attention(const char* what, const AttentionShape& shape) {
    const std::uint32_t rows = shape.attrs.q_len;
    const std::string name = "d" + std::to_string(shape.attrs.head_dim) + ", " + what + ", " +
                             std::to_string(rows) + (rows == 1 ? " row" : " rows");
    const auto choice = choose_attention(shape, target_);
    if (!choice) return add("attention", name, choice.error());
    for (const Dispatch& d : choice->dispatches) add("attention", name, d);
    if (auto tiles = choose_mask_tiles(shape, choice->dispatches[0], true, true, target_.limits))
      add("attention", name + ", tiles of a mask", *std::move(tiles));
  }

  void linear_attentions() {
    for (const UpdateRule rule : {UpdateRule::linear, UpdateRule::gated, UpdateRule::gated_delta})
      for (const std::uint32_t rows : {kPrompt, 1u}) {
        LinearAttentionShape shape{.past = true, .present = true};
        shape.attrs = {
            .len = rows, .heads = kHeads, .kv_heads = kHeads, .k_dim = 128, .v_dim = 128, .rule = rule};
        shape.attrs.decay_by_dim = rule == UpdateRule::gated;
        const char* names[] = {"linear", "gated by element", "delta", "gated delta"};
        choice("linear_attention",
               names[static_cast<std::size_t>(rule)] + std::string(rows == 1 ? ", 1 row" : ", prompt"),
               choose_linear_attention(shape, target_));
      }
  }

  const Target& target_;
  std::vector<Variant> out_;
};

struct Step {
  const char* name;
  bool Caps::*cap;
};
// From the most special: a module that needs one of these stands in front of those below.
constexpr Step kSteps[] = {
    {"coopmat2", &Caps::coopmat2},
    {"coopmat", &Caps::coopmat},
    {"int_dot", &Caps::int_dot},
    {"bf16", &Caps::bf16},
    {"fp16", &Caps::fp16},
    {"int8", &Caps::int8},
    {"storage16", &Caps::storage16},
    {"storage8", &Caps::storage8},
    {"subgroup_clustered", &Caps::subgroup_clustered},
    {"subgroup_shuffle", &Caps::subgroup_shuffle},
    {"subgroup_arithmetic", &Caps::subgroup_arithmetic},
};

}  // namespace

std::vector<Variant> default_variants(const Target& target) {
  std::vector<Variant> out = List(target).run();
  std::set<KernelId> seen;
  for (const Variant& v : out)
    if (v.dispatch) seen.insert(v.dispatch->kernel);
  Target lesser = target;
  for (const Step& step : kSteps) {
    if (!(lesser.caps.*step.cap)) continue;
    lesser.caps.*step.cap = false;
    std::set<KernelId> found;
    for (Variant& v : List(lesser).run()) {
      if (!v.dispatch || seen.contains(v.dispatch->kernel)) continue;
      found.insert(v.dispatch->kernel);
      v.name += std::string(v.name.empty() ? "" : ", ") + "without " + step.name;
      out.push_back(std::move(v));
    }
    seen.merge(found);
  }
  return out;
}

}  // namespace tessera
