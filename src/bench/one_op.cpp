#include "bench/one_op.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/blocks.h"

namespace tessera::bench {
namespace {

// Element (row, column) of tensor `seed`, in [-1, 1) times `scale`: the same in a window as in the whole.
float element(std::uint32_t seed, std::uint64_t row, std::uint64_t column, float scale) {
  std::uint64_t x =
      (row * 0x9e3779b97f4a7c15u) ^ (column * 0xc2b2ae3d27d4eb4fu) ^ (seed * 0x165667b19e3779f9u);
  x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9u;
  x ^= x >> 32;
  return (static_cast<float>(x & 0xffffff) / 8388608.0f - 1) * scale;
}

template <typename T>
std::vector<std::byte> to_bytes(const std::vector<T>& values) {
  std::vector<std::byte> out(values.size() * sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), values.data(), out.size());
  return out;
}

// One block of a type that nothing encodes, with hashed quants and values of about `scale`.
void hashed_block(DType type, std::uint64_t seed, float scale, std::span<std::byte> out) {
  std::uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  for (std::byte& b : out) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    b = static_cast<std::byte>(state >> 56);
  }
  for (const BlockScale& unit : block_scales(type)) {
    const std::uint16_t half = f32_to_f16(unit.unit * scale);
    std::memcpy(out.data() + unit.at, &half, sizeof half);
  }
}

// Weights of one op: the value's name is the seed, its rows begin at `first`.
class HashedWeights : public WeightReader {
 public:
  explicit HashedWeights(std::uint64_t first) : first_(first) {}
  Result<void> read(const Value& weight, std::uint64_t first_row, std::span<std::byte> out) const override {
    const bool vector = weight.shape.size() == 1;
    const std::uint64_t columns = vector ? 1 : weight.last_dim();
    const std::uint64_t bytes = file_bytes(columns, info(weight.dtype));
    const float scale = vector ? 1.0f : 1 / std::sqrt(static_cast<float>(columns));
    std::uint32_t seed = 8;
    for (const char c : weight.name) seed = 31 * seed + static_cast<unsigned char>(c);
    std::vector<float> row(columns);
    for (std::uint64_t r = 0; r * bytes < out.size(); ++r) {
      const std::uint64_t at = vector ? first_row + r : first_ + first_row + r;
      if (!can_encode(weight.dtype)) {
        const DTypeInfo& type = info(weight.dtype);
        for (std::uint64_t b = 0; b < columns / type.block_elems; ++b)
          hashed_block(weight.dtype, (std::uint64_t{seed} << 32) + at * columns + b, scale,
                       out.subspan(r * bytes + b * type.block_bytes, type.block_bytes));
        continue;
      }
      for (std::uint64_t c = 0; c < columns; ++c)
        row[c] = vector ? 1 + 0.1f * element(7, 0, at, 1) : element(seed, at, c, scale);
      encode_row(weight.dtype, row, out.subspan(r * bytes, bytes));
    }
    return {};
  }

 private:
  std::uint64_t first_;
};

class Builder {
 public:
  Builder(const OpCase& c, const Window& w) : c_(c), w_(w) {
    program_->weights = std::make_shared<HashedWeights>(w.column);
    program_->state = value("state", Storage::input, DType::u32, {8});
    program_->graphs.push_back({"op", w.rows, {}});
  }

  OneOp run() {
    StepState state;
    state.rows = w_.rows;
    switch (c_.kind) {
      case OpKind::matmul: matmul(); break;
      case OpKind::feed_forward: feed_forward(); break;
      case OpKind::mlp: mlp(); break;
      case OpKind::attention:
        attention();
        // Without causality every row sees all keys, whichever rows of them these are.
        state.position = c_.keys - (c_.causal ? c_.rows - w_.row : w_.rows);
        break;
      case OpKind::linear_attention: linear_attention(); break;
      case OpKind::norm: norm(); break;
      case OpKind::rope:
        rope();
        state.position = c_.keys + w_.row;
        break;
      case OpKind::glu:
      case OpKind::add: op({given("a", 1, c_.dim), given("b", 2, c_.dim)}, {output(c_.dim)}); break;
      case OpKind::embedding:
        embedding();
        state.position = w_.row;
        break;
      default: sample(); break;
    }
    OneOp out{program_, std::move(writes_), {program_->state, {}}};
    out.state.bytes = to_bytes(std::vector<StepState>{state});
    return out;
  }

 private:
  ValueId value(std::string name, Storage storage, DType type, std::vector<std::uint64_t> shape) {
    Value v;
    v.name = std::move(name);
    v.storage = storage;
    v.dtype = type;
    v.shape = std::move(shape);
    program_->values.push_back(std::move(v));
    return static_cast<ValueId>(program_->values.size() - 1);
  }
  ValueId weight(std::string name, DType type, std::vector<std::uint64_t> shape) {
    return value(std::move(name), Storage::weight, type, std::move(shape));
  }
  ValueId output(std::uint64_t columns) { return value("y", Storage::output, c_.io, {w_.rows, columns}); }
  // An operand that the host writes: of storage output, which needs no op before it.
  ValueId given(const char* name, std::uint32_t seed, std::uint64_t columns, float middle = 0,
                float spread = 1) {
    const ValueId id = value(name, Storage::output, c_.io, {w_.rows, columns});
    std::vector<float> x(w_.rows * columns);
    for (std::uint64_t r = 0; r < w_.rows; ++r)
      for (std::uint64_t i = 0; i < columns; ++i)
        x[r * columns + i] = middle + element(seed, w_.row + r, i, spread);
    std::vector<std::byte> bytes(file_bytes(x.size(), info(c_.io)));
    encode_row(c_.io, x, bytes);
    writes_.push_back({id, std::move(bytes)});
    return id;
  }
  void op(std::vector<ValueId> in, std::vector<ValueId> out, OpAttrs attrs = {}) {
    if (c_.kind != OpKind::mlp) attrs.act = c_.act;  // it has attrs.acts
    program_->graphs[0].ops.push_back({c_.kind, c_.name, attrs, std::move(in), std::move(out)});
  }

  void matmul() {
    const ValueId x = given("x", 1, c_.dim);
    OpAttrs attrs;
    attrs.precision = c_.precision;
    op({x, weight("w", c_.type, {w_.columns, c_.dim}), kNoValue, kNoValue, kNoValue, kNoValue, kNoValue},
       {output(w_.columns)}, attrs);
  }

  void feed_forward() {
    const ValueId x = given("x", 1, c_.dim), w = weight("w", c_.type, {c_.n, c_.dim});
    const ValueId up = c_.gated ? weight("up", c_.type, {c_.n, c_.dim}) : kNoValue;
    const ValueId down = weight("down", c_.type, {c_.dim, c_.n});
    OpAttrs attrs;
    attrs.precision = c_.precision;
    op({x, w, kNoValue, up, kNoValue, down, kNoValue, kNoValue, kNoValue}, {output(c_.dim)}, attrs);
  }

  void mlp() {
    std::vector<ValueId> in{given("x", 1, c_.dim)};
    for (std::uint32_t i = 0; i < c_.layers; ++i) {
      in.push_back(weight("w" + std::to_string(i), c_.type, {c_.dim, c_.dim}));
      in.push_back(kNoValue);
    }
    OpAttrs attrs;
    attrs.acts.assign(c_.layers, c_.act);
    op(std::move(in), {output(c_.dim)}, attrs);
  }

  void norm() {
    const ValueId x = given("x", 1, c_.dim);
    const ValueId residual = c_.residual ? given("residual", 2, c_.dim) : kNoValue;
    const ValueId w = weight("w", DType::f32, {c_.dim});
    const ValueId sum = c_.residual ? value("sum", Storage::output, DType::f32, {w_.rows, c_.dim}) : kNoValue;
    OpAttrs attrs;
    attrs.eps = 1e-5f;
    attrs.layer_norm = c_.layer_norm;
    op({x, w, kNoValue, residual}, {output(c_.dim), sum}, attrs);
  }

  void rope() {
    const std::uint32_t context = c_.keys + c_.rows, half = c_.head_dim / 2;
    const ValueId x = given("x", 1, std::uint64_t{c_.heads} * c_.head_dim);
    const ValueId table = value("table", Storage::constant, DType::f32, {context, half, 2});
    std::vector<float> angles;
    for (std::uint32_t p = 0; p < context; ++p)
      for (std::uint32_t i = 0; i < half; ++i) {
        const double angle = p * std::pow(1e4, -static_cast<double>(i) / half);
        angles.push_back(static_cast<float>(std::cos(angle)));
        angles.push_back(static_cast<float>(std::sin(angle)));
      }
    program_->values[table].data = std::make_shared<const std::vector<float>>(std::move(angles));
    OpAttrs attrs;
    attrs.heads = c_.heads;
    attrs.head_dim = attrs.rope_dims = c_.head_dim;
    op({x, table, program_->state}, {output(std::uint64_t{c_.heads} * c_.head_dim)}, attrs);
  }

  void embedding() {
    const ValueId tokens = value("tokens", Storage::input, DType::u32, {c_.rows + 1});
    std::vector<std::uint32_t> ids;
    for (std::uint32_t i = 0; i <= c_.rows; ++i)
      ids.push_back(static_cast<std::uint32_t>(std::uint64_t{i} * 2654435761u % c_.n));
    writes_.push_back({tokens, to_bytes(ids)});
    op({tokens, program_->state, weight("table", c_.type, {c_.n, c_.dim}), kNoValue}, {output(c_.dim)});
  }

  ValueId cache(const char* name, std::uint32_t seed) {
    const ValueId id = value(name, Storage::cache, c_.kv_type, {c_.kv_heads, c_.keys, c_.head_dim});
    std::vector<float> x(program_->values[id].elems());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = element(seed, i / c_.head_dim, i % c_.head_dim, 1);
    std::vector<std::byte> bytes(file_bytes(x.size(), info(c_.kv_type)));
    encode_row(c_.kv_type, x, bytes);
    writes_.push_back({id, std::move(bytes)});
    return id;
  }

  template <typename T>
  ValueId given_list(const char* name, DType type, std::vector<std::uint64_t> shape,
                     const std::vector<T>& list) {
    const ValueId id = value(name, Storage::output, type, std::move(shape));
    writes_.push_back({id, to_bytes(list)});
    return id;
  }

  // What c_.pair reads: an operand of attention's own or, in the same place of the program, a user's buffer.
  void attention_pair(std::vector<ValueId>& in, AttentionAttrs& a) {
    const auto put = [&](AttentionIn which, ValueId id) {
      if (c_.user)
        in.push_back(id);
      else
        in[static_cast<std::size_t>(which)] = id;
    };
    if (c_.pair == UserPair::softcap && !c_.user) a.softcap = kPairSoftcap;
    if (c_.pair == UserPair::alibi) {
      std::vector<float> slopes;
      for (std::uint32_t h = 0; h < c_.heads; ++h) slopes.push_back(std::exp2(-static_cast<float>(h + 1)));
      put(AttentionIn::slopes, given_list("slopes", DType::f32, {c_.heads}, slopes));
    }
    if (c_.pair == UserPair::relative_bias) {
      constexpr std::uint64_t kEntries = 2 * kPairDistance + 1;
      std::vector<float> bias;
      for (std::uint64_t i = 0; i < kEntries * c_.heads; ++i) bias.push_back(element(4, i, 0, 1));
      put(AttentionIn::relative, given_list("bias", DType::f32, {kEntries, c_.heads}, bias));
      if (c_.user) return;
      a.relative = RelativeBias::distance;
      a.relative_size = kPairDistance;
    }
    if (c_.pair == UserPair::documents) documents(put);
  }

  // Of a document for every kPairDocument keys, the rows that the window has.
  template <typename Put>
  void documents(const Put& put) {
    const std::uint32_t first_row = c_.keys - c_.rows + w_.row;
    std::vector<std::uint32_t> ids, rows, keys;
    for (std::uint32_t k = 0; k < c_.keys; ++k) ids.push_back(k / kPairDocument);
    for (std::uint32_t k = 0; k <= c_.keys; k += kPairDocument) {
      rows.push_back(std::clamp(k, first_row, first_row + w_.rows) - first_row);
      keys.push_back(k);
    }
    if (c_.user) return put(AttentionIn::documents, given_list("document", DType::u32, {ids.size()}, ids));
    rows.insert(rows.end(), keys.begin(), keys.end());
    put(AttentionIn::documents, given_list("documents", DType::u32, {2, keys.size()}, rows));
  }

  // All that depends on how attention is described.
  void attention() {
    const std::uint64_t columns = std::uint64_t{c_.heads} * c_.head_dim;
    std::vector<ValueId> in(static_cast<std::size_t>(AttentionIn::count), kNoValue);
    in[static_cast<std::size_t>(AttentionIn::q)] = given("q", 1, columns);
    in[static_cast<std::size_t>(AttentionIn::k)] = cache("k", 2);
    in[static_cast<std::size_t>(AttentionIn::v)] = cache("v", 3);
    if (c_.pair != UserPair::documents) in[static_cast<std::size_t>(AttentionIn::state)] = program_->state;
    OpAttrs attrs;
    AttentionAttrs& a = attrs.attention;
    a.q_len = w_.rows;
    a.kv_len = c_.keys;
    a.heads = c_.heads;
    a.kv_heads = c_.kv_heads;
    a.head_dim = a.v_dim = c_.head_dim;
    // Scores of a few units, as trained models have: elements here are uniform, of variance 1/3.
    a.scale = 3 / std::sqrt(static_cast<float>(c_.head_dim));
    a.causal = c_.causal || c_.rows == 1 ? Causal::bottom_right : Causal::none;
    a.cache = true;
    a.window_left = c_.window_left;
    a.precision = c_.precision;
    if (c_.block != 0) {
      a.q_block = a.k_block = c_.block;
      const std::uint32_t first = w_.row / c_.block, end = (w_.row + w_.rows - 1) / c_.block + 1;
      const std::vector<std::uint32_t> lists = c_.lists(first, end - first);
      const ValueId id = value("lists", Storage::input, DType::u32, {lists.size()});
      writes_.push_back({id, to_bytes(lists)});
      in[static_cast<std::size_t>(AttentionIn::lists)] = id;
    }
    a.user = c_.user;
    if (c_.user && !c_.user->mask.empty()) {
      a.causal = Causal::none;
      a.window_left = kNoWindow;
    }
    attention_pair(in, a);
    op(std::move(in), {output(columns), kNoValue, kNoValue}, attrs);
  }

  void linear_attention() {
    OpAttrs attrs;
    LinearAttentionAttrs& a = attrs.linear;
    a.len = w_.rows;
    a.heads = c_.heads;
    a.kv_heads = c_.kv_heads;
    a.k_dim = a.v_dim = c_.head_dim;
    a.rule = c_.rule;
    a.scale = 1 / std::sqrt(static_cast<float>(c_.head_dim));
    a.decay_by_dim = c_.rule == UpdateRule::gated;
    a.beta_by_head = true;
    const std::uint64_t columns = std::uint64_t{c_.heads} * c_.head_dim;
    std::vector<ValueId> in(static_cast<std::size_t>(LinearIn::count), kNoValue);
    const auto put = [&](LinearIn which, ValueId id) { in[static_cast<std::size_t>(which)] = id; };
    put(LinearIn::q, given("q", 1, columns));
    // Keys of about length 1, decays and betas of about 1/2.
    put(LinearIn::k, given("k", 2, columns, 0, 1.7f * a.scale));
    put(LinearIn::v, given("v", 3, columns));
    if (is_gated(c_.rule))
      put(LinearIn::decay, given("decay", 4, a.decay_by_dim ? columns : c_.heads, -0.5f, 0.5f));
    if (is_delta(c_.rule)) put(LinearIn::beta, given("beta", 5, c_.heads, 0.5f, 0.5f));
    ValueId present = kNoValue;
    if (c_.rows == 1) {
      const std::vector<std::uint64_t> shape{1, c_.kv_heads, c_.head_dim, c_.head_dim};
      const ValueId past = value("past", Storage::output, DType::f32, shape);
      std::vector<float> state(program_->values[past].elems());
      for (std::size_t i = 0; i < state.size(); ++i)
        state[i] = element(6, i / c_.head_dim, i % c_.head_dim, 1);
      writes_.push_back({past, to_bytes(state)});
      put(LinearIn::past, past);
      present = value("present", Storage::output, DType::f32, shape);
    }
    op(std::move(in), {output(columns), present, kNoValue}, attrs);
  }

  void sample() {
    const ValueId logits = value("logits", Storage::output, DType::f32, {1, c_.n});
    std::vector<float> x(c_.n);
    for (std::uint32_t i = 0; i < c_.n; ++i) x[i] = element(1, 0, i, 8);
    writes_.push_back({logits, to_bytes(x)});
    const ValueId tokens = value("tokens", Storage::input, DType::u32, {128});
    writes_.push_back({tokens, to_bytes(std::vector<std::uint32_t>(128, 1))});
    const ValueId sampler = value("sampler", Storage::input, DType::u32, {8});
    writes_.push_back({sampler, to_bytes(std::vector<SamplerParams>{c_.sampler})});
    op({logits, tokens, program_->state, sampler}, {tokens, program_->state});
  }

  const OpCase& c_;
  const Window w_;
  std::shared_ptr<Program> program_ = std::make_shared<Program>();
  std::vector<OneOp::Write> writes_;
};

}  // namespace

Window whole(const OpCase& c) { return {0, c.rows, 0, c.kind == OpKind::matmul ? c.n : 0}; }

std::vector<Window> samples(const OpCase& c) {
  const Window all = whole(c);
  // A row's state is of all rows before it.
  if (c.kind == OpKind::linear_attention) return {{0, std::min(c.rows, 64u), 0, 0}};
  // One row of many heads and keys is work enough for the reference.
  const std::uint32_t rows = std::min(c.rows, c.kind == OpKind::attention ? 1u : 2u);
  const std::uint32_t columns = std::min(all.columns, 48u);
  std::vector<Window> out;
  for (std::uint32_t part : {0u, 1u, 2u}) {
    const Window w{(c.rows - rows) / 2 * part, rows, (all.columns - columns) / 2 * part, columns};
    out.push_back(part == 2 ? Window{c.rows - rows, rows, all.columns - columns, columns} : w);
    if (c.rows == rows && all.columns == columns) break;
  }
  return out;
}

OneOp build(const OpCase& c, const Window& window) { return Builder(c, window).run(); }

}  // namespace tessera::bench
