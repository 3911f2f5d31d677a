#include "graph/fuse.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

namespace tessera {
namespace {

bool is_vector_bias(const std::vector<ValueId>& ids, bool present) {
  return std::ranges::all_of(ids, [&](ValueId id) { return (id != kNoValue) == present; });
}

// "blk.0.attn_q.weight", "blk.0.attn_k.weight", ... -> "blk.0.attn_qk.weight".
std::string stacked_name(const std::vector<std::string>& names) {
  const std::string& a = names[0];
  std::size_t prefix = a.size(), suffix = a.size();
  for (const std::string& b : names) {
    auto head = std::ranges::mismatch(a, b).in1 - a.begin();
    prefix = std::min(prefix, static_cast<std::size_t>(head));
    std::size_t tail = 0;
    while (tail < a.size() && tail < b.size() && a[a.size() - 1 - tail] == b[b.size() - 1 - tail]) ++tail;
    suffix = std::min(suffix, tail);
  }
  for (const std::string& b : names) suffix = std::min(suffix, b.size() - prefix);
  std::string text = a.substr(0, prefix);
  for (const std::string& b : names) text += b.substr(prefix, b.size() - prefix - suffix);
  return text + a.substr(a.size() - suffix);
}

using Orders = std::vector<RowOrder>;
using Stacks = std::map<std::pair<std::vector<ValueId>, Orders>, ValueId>;

// One graph of the program being rewritten. Removed ops are marked and swept at the end of each pass.
class Fuser {
 public:
  Fuser(Program& program, Graph& graph, Stacks& stacks, const Fusion& what)
      : program_(program), graph_(graph), stacks_(stacks), what_(what) {}

  void run() {
    index();
    pass(&Fuser::fuse_qkv);
    pass(&Fuser::fuse_glu);
    pass(&Fuser::fuse_activation);
    if (what_.blocks) pass(&Fuser::fuse_feed_forward);
    if (what_.sums) pass(&Fuser::fuse_sum);
    pass(&Fuser::fuse_residual);
    pass(&Fuser::fuse_last_row);
    if (what_.norms) pass(&Fuser::fuse_norm);
  }

 private:
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  void pass(void (Fuser::*rule)(std::size_t)) {
    for (std::size_t i = 0; i < graph_.ops.size(); ++i) (this->*rule)(i);
    sweep();
  }

  void index() {
    producer_.clear();
    users_.clear();
    removed_.assign(graph_.ops.size(), false);
    for (std::size_t i = 0; i < graph_.ops.size(); ++i) {
      for (ValueId id : graph_.ops[i].in)
        if (id != kNoValue) users_[id].push_back(i);
      for (ValueId id : graph_.ops[i].out)
        if (id != kNoValue) producer_[id] = i;
    }
  }

  void sweep() {
    std::vector<Op> kept;
    for (std::size_t i = 0; i < graph_.ops.size(); ++i)
      if (!removed_[i]) kept.push_back(std::move(graph_.ops[i]));
    graph_.ops = std::move(kept);
    index();
  }

  // The only op that reads an activation; kNone when there are more, or the value outlives the pass.
  std::size_t only_user(ValueId id) const {
    auto at = users_.find(id);
    if (at == users_.end() || at->second.size() != 1 || program_.values[id].storage != Storage::activation ||
        removed_[at->second[0]])
      return kNone;
    return at->second[0];
  }

  // The op that makes `id` if it is of `kind`, still there, and `id` has no use but one.
  std::size_t only_source(ValueId id, OpKind kind) const {
    auto at = producer_.find(id);
    if (at == producer_.end() || removed_[at->second] || graph_.ops[at->second].kind != kind ||
        only_user(id) == kNone)
      return kNone;
    return at->second;
  }

  // Operands of a matmul or feed_forward; the norm of qkv_append too.
  static std::size_t residual_of(const Op& op) { return op.kind == OpKind::matmul ? 5 : 7; }
  static std::size_t norm_of(const Op& op) {
    return op.kind == OpKind::matmul ? 6 : op.kind == OpKind::feed_forward ? 8 : 3;
  }
  static bool has_residual(const Op& op) { return op.in[residual_of(op)] != kNoValue; }

  bool is_plain_matmul(const Op& op) const {
    return op.kind == OpKind::matmul && program_.values[op.in[1]].shape.size() == 2 && op.in[3] == kNoValue &&
           !has_residual(op) && op.in[6] == kNoValue && op.attrs.act == Activation::none &&
           op.attrs.scale == 1;
  }

  // The value whose rows are those of `parts`, made once for all graphs; kNoValue when they do not stack.
  ValueId stack(const std::vector<ValueId>& parts, const Orders& orders) {
    if (auto at = stacks_.find({parts, orders}); at != stacks_.end()) return at->second;
    const Value& first = program_.values[parts[0]];
    Value all;
    all.storage = first.storage;
    all.dtype = first.dtype;
    all.shape = first.shape;
    all.shape[0] = 0;
    std::vector<std::string> names;
    std::vector<float> data;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const Value& v = program_.values[parts[i]];
      if (v.storage != first.storage || v.dtype != first.dtype || v.shape.size() != first.shape.size() ||
          (v.shape.size() > 1 && v.last_dim() != first.last_dim()) || !v.parts.empty())
        return kNoValue;
      all.shape[0] += v.shape[0];
      names.push_back(v.name);
      if (v.data) append_rows(v, orders.empty() ? RowOrder{} : orders[i], data);
    }
    all.name = stacked_name(names);
    if (all.storage == Storage::constant)
      all.data = std::make_shared<const std::vector<float>>(std::move(data));
    else {
      all.parts = parts;
      all.orders = orders;
    }
    return stacks_[{parts, orders}] = add(std::move(all));
  }

  static void append_rows(const Value& constant, const RowOrder& order, std::vector<float>& out) {
    const std::uint64_t k = constant.shape.size() > 1 ? constant.last_dim() : 1;
    for (std::uint64_t row = 0; row < constant.elems() / k; ++row) {
      const auto from = constant.data->begin() + static_cast<std::ptrdiff_t>(order.source(row) * k);
      out.insert(out.end(), from, from + static_cast<std::ptrdiff_t>(k));
    }
  }

  ValueId add(Value value) {
    program_.values.push_back(std::move(value));
    return static_cast<ValueId>(program_.values.size() - 1);
  }

  struct Qkv {
    // Indices of ops, in the order below.
    std::size_t q = kNone, k = kNone, v = kNone, q_rope = kNone, k_rope = kNone, k_append = kNone,
                v_append = kNone;
    std::array<std::size_t, 7> all() const { return {q, k, v, q_rope, k_rope, k_append, v_append}; }
  };

  // The ops around an attention, followed upwards from its q and its caches.
  std::optional<Qkv> match_qkv(const Op& attention) const {
    auto find_append = [&](ValueId cache) {
      std::size_t found = kNone;
      for (std::size_t i = 0; i < graph_.ops.size() && &graph_.ops[i] != &attention; ++i)
        if (!removed_[i] && graph_.ops[i].kind == OpKind::kv_append && graph_.ops[i].out[0] == cache)
          found = i;
      return found;
    };
    Qkv m;
    m.q_rope = only_source(attention.in[0], OpKind::rope);
    m.k_append = find_append(attention.in[1]);
    m.v_append = find_append(attention.in[2]);
    if (m.q_rope == kNone || m.k_append == kNone || m.v_append == kNone) return std::nullopt;
    m.k_rope = only_source(graph_.ops[m.k_append].in[0], OpKind::rope);
    if (m.k_rope == kNone) return std::nullopt;
    m.q = only_source(graph_.ops[m.q_rope].in[0], OpKind::matmul);
    m.k = only_source(graph_.ops[m.k_rope].in[0], OpKind::matmul);
    m.v = only_source(graph_.ops[m.v_append].in[0], OpKind::matmul);
    if (m.q == kNone || m.k == kNone || m.v == kNone) return std::nullopt;
    return fits(m) ? std::optional(m) : std::nullopt;
  }

  bool fits(const Qkv& m) const {
    const Op &q = graph_.ops[m.q], &k = graph_.ops[m.k], &v = graph_.ops[m.v];
    const Op &q_rope = graph_.ops[m.q_rope], &k_rope = graph_.ops[m.k_rope];
    const Op &k_append = graph_.ops[m.k_append], &v_append = graph_.ops[m.v_append];
    const OpAttrs &a = q_rope.attrs, &b = k_rope.attrs;
    if (!is_plain_matmul(q) || !is_plain_matmul(k) || !is_plain_matmul(v)) return false;
    if (q.in[0] != k.in[0] || q.in[0] != v.in[0]) return false;
    if (q.attrs.precision != k.attrs.precision || q.attrs.precision != v.attrs.precision) return false;
    const std::vector<ValueId> biases{q.in[2], k.in[2], v.in[2]};
    if (!is_vector_bias(biases, true) && !is_vector_bias(biases, false)) return false;
    if (a.head_dim != b.head_dim || a.rope_dims != b.rope_dims || a.rope_adjacent != b.rope_adjacent ||
        q_rope.in[1] != k_rope.in[1] || b.heads != k_append.attrs.kv_heads ||
        k_append.attrs.kv_heads != v_append.attrs.kv_heads || k_append.attrs.head_dim != a.head_dim)
      return false;
    return is_plain_rope(a) && is_plain_rope(b) && a.attention.batch == b.attention.batch &&
           same_form(k_append, v_append, a.attention.batch) && nothing_between(m);
  }

  static bool has_plain_layout(const AttentionAttrs& a) {
    return !a.heads_first && a.q_strides == Strides{} && a.y_strides == Strides{};
  }
  static bool is_plain_rope(const OpAttrs& a) { return !a.table_by_row && has_plain_layout(a.attention); }

  // Both caches take the same keys at the same places; only their heads' sizes may differ.
  bool same_form(const Op& k, const Op& v, std::uint32_t batch) const {
    const AttentionAttrs &a = k.attrs.attention, &b = v.attrs.attention;
    const Value &k_cache = program_.values[k.out[0]], &v_cache = program_.values[v.out[0]];
    return has_plain_layout(a) && has_plain_layout(b) && a.batch == batch && b.batch == batch &&
           a.block_size == b.block_size && a.ring == b.ring && k.in[3] == v.in[3] &&
           k_cache.dtype == v_cache.dtype && k_cache.shape.size() == v_cache.shape.size() &&
           std::equal(k_cache.shape.begin(), k_cache.shape.end() - 1, v_cache.shape.begin());
  }

  // The fused pair takes the place of the last op; nothing else on the way may touch the caches.
  bool nothing_between(const Qkv& m) const {
    const auto all = m.all();
    const auto [first, last] = std::ranges::minmax(all);
    const ValueId k_cache = graph_.ops[m.k_append].out[0], v_cache = graph_.ops[m.v_append].out[0];
    for (std::size_t i = first; i <= last; ++i) {
      if (removed_[i] || std::ranges::find(all, i) != all.end()) continue;
      for (const auto* ids : {&graph_.ops[i].in, &graph_.ops[i].out})
        for (ValueId id : *ids)
          if (id == k_cache || id == v_cache) return false;
    }
    return true;
  }

  // Whether rotation and append can be the product's epilogue: docs/kernels/matmul.md has the reasons.
  bool fits_epilogue(const Qkv& m) const {
    const OpAttrs& turn = graph_.ops[m.q_rope].attrs;
    const std::uint32_t v_dim = graph_.ops[m.v_append].attrs.head_dim;
    const DType cache = program_.values[graph_.ops[m.k_append].out[0]].dtype;
    const Precision precision = graph_.ops[m.q].attrs.precision;
    return what_.heads &&
           append_epilogue_fault(turn.head_dim, v_dim, turn.rope_dims, cache, precision).empty();
  }

  // q, k, v matmuls -> one over stacked weights; rope and the two appends -> its epilogue, or rope_append.
  void fuse_qkv(std::size_t at) {
    if (graph_.ops[at].kind != OpKind::attention) return;
    const std::optional<Qkv> m = match_qkv(graph_.ops[at]);
    if (!m) return;
    const Op q = graph_.ops[m->q], k = graph_.ops[m->k], v = graph_.ops[m->v];
    const OpAttrs& turn = graph_.ops[m->q_rope].attrs;
    const bool epilogue = fits_epilogue(*m);
    const RowOrder pairs{turn.head_dim, turn.rope_dims};
    const Orders orders = epilogue && !turn.rope_adjacent ? Orders{pairs, pairs, {}} : Orders{};
    const ValueId weight = stack({q.in[1], k.in[1], v.in[1]}, orders);
    const ValueId bias = q.in[2] == kNoValue ? kNoValue : stack({q.in[2], k.in[2], v.in[2]}, orders);
    if (weight == kNoValue || (q.in[2] != kNoValue && bias == kNoValue)) return;

    if (epilogue) return replace(*m, {fused_append(*m, weight, bias)});

    Value qkv = program_.values[q.out[0]];
    qkv.name = stacked_name({qkv.name, program_.values[k.out[0]].name, program_.values[v.out[0]].name});
    qkv.shape[1] = program_.values[weight].shape[0];
    const ValueId qkv_id = add(std::move(qkv));

    const Op q_rope = graph_.ops[m->q_rope];
    const ValueId k_cache = graph_.ops[m->k_append].out[0], v_cache = graph_.ops[m->v_append].out[0];
    Op product{OpKind::matmul, stacked_name({q.name, k.name, v.name}), {}, {}, {}};
    product.attrs.precision = q.attrs.precision;
    product.in = {q.in[0], weight, bias, kNoValue, kNoValue, kNoValue, kNoValue};
    product.out = {qkv_id};
    Op append{OpKind::rope_append, q_rope.name, append_attrs(*m), {}, {}};
    append.in = {qkv_id, q_rope.in[1], q_rope.in[2], k_cache, v_cache, graph_.ops[m->k_append].in[3]};
    append.out = {q_rope.out[0], k_cache, v_cache};

    replace(*m, {std::move(product), std::move(append)});
  }

  OpAttrs append_attrs(const Qkv& m) const {
    OpAttrs attrs = graph_.ops[m.q_rope].attrs;
    attrs.kv_heads = graph_.ops[m.k_append].attrs.kv_heads;
    attrs.attention = graph_.ops[m.k_append].attrs.attention;
    attrs.attention.v_dim = graph_.ops[m.v_append].attrs.head_dim;
    return attrs;
  }

  Op fused_append(const Qkv& m, ValueId weight, ValueId bias) const {
    const Op &q = graph_.ops[m.q], &q_rope = graph_.ops[m.q_rope], &append = graph_.ops[m.k_append];
    const ValueId k_cache = append.out[0], v_cache = graph_.ops[m.v_append].out[0];
    Op out{OpKind::qkv_append,
           stacked_name({q.name, graph_.ops[m.k].name, graph_.ops[m.v].name}),
           append_attrs(m),
           {},
           {q_rope.out[0], k_cache, v_cache}};
    out.in = {q.in[0], weight, bias, kNoValue, q_rope.in[1], q_rope.in[2], k_cache, v_cache, append.in[3]};
    return out;
  }

  // One op takes the place of the last, the first of two that of the first.
  void replace(const Qkv& m, std::vector<Op> ops) {
    const auto all = m.all();
    for (std::size_t i : all) removed_[i] = true;
    const auto [first, last] = std::ranges::minmax(all);
    const auto put = [&](std::size_t at, Op& op) {
      graph_.ops[at] = std::move(op);
      removed_[at] = false;
    };
    if (ops.size() > 1) put(first, ops.front());
    put(last, ops.back());
  }

  // gate and up matmuls + glu -> one gated matmul.
  void fuse_glu(std::size_t at) {
    Op& glu = graph_.ops[at];
    if (glu.kind != OpKind::glu || glu.in[0] == glu.in[1]) return;
    const std::size_t g = only_source(glu.in[0], OpKind::matmul);
    const std::size_t u = only_source(glu.in[1], OpKind::matmul);
    if (g == kNone || u == kNone) return;
    const Op &gate = graph_.ops[g], &up = graph_.ops[u];
    if (!is_plain_matmul(gate) || !is_plain_matmul(up) || gate.in[0] != up.in[0]) return;
    if (program_.values[gate.in[1]].dtype != program_.values[up.in[1]].dtype) return;
    if ((gate.in[2] == kNoValue) != (up.in[2] == kNoValue)) return;
    if (gate.attrs.precision != up.attrs.precision) return;

    Op fused{OpKind::matmul, glu.name, {}, {}, glu.out};
    fused.attrs.act = glu.attrs.act;
    fused.attrs.precision = gate.attrs.precision;
    fused.in = {gate.in[0], gate.in[1], gate.in[2], up.in[1], up.in[2], kNoValue, kNoValue};
    removed_[g] = removed_[u] = true;
    glu = std::move(fused);
  }

  // matmul + activation -> its epilogue.
  void fuse_activation(std::size_t at) {
    Op& act = graph_.ops[at];
    if (act.kind != OpKind::activation) return;
    const std::size_t m = only_source(act.in[0], OpKind::matmul);
    if (m == kNone || !is_plain_matmul(graph_.ops[m])) return;
    Op fused = graph_.ops[m];
    fused.attrs.act = act.attrs.act;
    fused.out = act.out;
    removed_[m] = true;
    act = std::move(fused);
  }

  // A product with an activation or a gate, and the only product that reads it -> one block. Before sums and
  // norms join a product, as they join the block.
  void fuse_feed_forward(std::size_t at) {
    Op& down = graph_.ops[at];
    if (!is_plain_matmul(down)) return;
    const std::size_t h = only_source(down.in[0], OpKind::matmul);
    if (h == kNone) return;
    const Op& hidden = graph_.ops[h];
    if (has_residual(hidden) || hidden.attrs.scale != 1 || hidden.attrs.precision != down.attrs.precision ||
        program_.values[down.in[0]].dtype != DType::f32 ||
        (hidden.attrs.act == Activation::none && hidden.in[3] == kNoValue))
      return;
    Op block{OpKind::feed_forward, down.name, hidden.attrs, hidden.in, down.out};
    block.in.resize(5);
    block.in.insert(block.in.end(), {down.in[1], down.in[2], kNoValue, hidden.in[6]});
    removed_[h] = true;
    down = std::move(block);
  }

  // matmul or feed_forward + add -> its epilogue. Before add + norm: a norm that reads the sum moves 8 bytes
  // an element, one that makes it 16, and the product 4 more where it saves those.
  void fuse_sum(std::size_t at) {
    Op& add = graph_.ops[at];
    if (add.kind != OpKind::add) return;
    for (const std::size_t side : {std::size_t{1}, std::size_t{0}}) {
      std::size_t product = only_source(add.in[side], OpKind::matmul);
      if (product == kNone) product = only_source(add.in[side], OpKind::feed_forward);
      if (product == kNone || has_residual(graph_.ops[product])) continue;
      Op fused = graph_.ops[product];
      fused.in[residual_of(fused)] = add.in[1 - side];
      fused.out = add.out;
      removed_[product] = true;
      add = std::move(fused);
      return;
    }
  }

  // add + norm -> norm with residual, which gives the sum too.
  void fuse_residual(std::size_t at) {
    Op& norm = graph_.ops[at];
    if (norm.kind != OpKind::norm || norm.in[3] != kNoValue) return;
    const ValueId sum = norm.in[0];
    auto source = producer_.find(sum);
    if (source == producer_.end() || removed_[source->second]) return;
    const Op& add = graph_.ops[source->second];
    if (add.kind != OpKind::add) return;
    if (std::ranges::any_of(users_.at(sum), [&](std::size_t user) { return user < at; })) return;

    norm.in[0] = add.in[0];
    norm.in[3] = add.in[1];
    norm.out[1] = sum;
    removed_[source->second] = true;
  }

  // add + last_row -> the sum of one row.
  void fuse_last_row(std::size_t at) {
    Op& last = graph_.ops[at];
    if (last.kind != OpKind::last_row || last.in[2] != kNoValue) return;
    const std::size_t sum = only_source(last.in[0], OpKind::add);
    if (sum == kNone) return;
    last.in[0] = graph_.ops[sum].in[0];
    last.in[2] = graph_.ops[sum].in[1];
    removed_[sum] = true;
  }

  // norm + product -> normalised as it is loaded, where few rows are multiplied.
  void fuse_norm(std::size_t at) {
    const Op& norm = graph_.ops[at];
    if (norm.kind != OpKind::norm || norm.attrs.layer_norm || norm.in[2] != kNoValue ||
        norm.in[3] != kNoValue || program_.values[norm.out[0]].shape[0] > kNormOnLoadRows)
      return;
    const std::size_t user = only_user(norm.out[0]);
    if (user == kNone) return;
    Op& product = graph_.ops[user];
    if ((product.kind != OpKind::matmul && product.kind != OpKind::feed_forward &&
         product.kind != OpKind::qkv_append) ||
        product.in[0] != norm.out[0] || product.attrs.precision != Precision::f32)
      return;
    const std::size_t slot = norm_of(product);
    if (product.in[slot] != kNoValue) return;
    product.in[0] = norm.in[0];
    product.in[slot] = norm.in[1];
    product.attrs.eps = norm.attrs.eps;
    removed_[at] = true;
  }

  Program& program_;
  Graph& graph_;
  Stacks& stacks_;  // parts and their orders -> stacked value
  const Fusion& what_;
  std::map<ValueId, std::size_t> producer_;
  std::map<ValueId, std::vector<std::size_t>> users_;
  std::vector<bool> removed_;
};

}  // namespace

Program fuse(const Program& program, const Fusion& what) {
  Program fused = program;
  Stacks stacks;
  for (Graph& graph : fused.graphs) Fuser(fused, graph, stacks, what).run();
  return fused;
}

}  // namespace tessera
