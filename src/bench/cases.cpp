#include "bench/cases.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tessera::bench {
namespace {

std::string lower_name(DType type) {
  std::string out(info(type).name);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

std::string by(std::uint32_t a, std::uint32_t b) { return std::to_string(a) + "x" + std::to_string(b); }

void add_matmuls(std::vector<OpCase>& out) {
  for (const DType type : kWeightTypes)
    for (const std::uint32_t rows : {1u, 8u, 512u}) {
      OpCase c{.kind = OpKind::matmul, .rows = rows, .dim = 4096, .n = 4096, .type = type};
      c.name = "matmul/" + lower_name(type) + "/4096x4096/n" + std::to_string(rows);
      out.push_back(c);
    }
  // All in f16, as matrix units take it.
  for (const std::uint32_t rows : {512u, 4096u}) {
    OpCase c{.kind = OpKind::matmul, .rows = rows, .dim = 4096, .n = 4096, .type = DType::f16};
    c.io = DType::f16;
    c.name = "matmul/f16/4096x4096/n" + std::to_string(rows) + "/f16";
    out.push_back(c);
  }
}

// Blocks of small models, where fusing is a choice, and networks as games run them.
void add_feed_forwards(std::vector<OpCase>& out) {
  struct Kind {
    DType type;
    bool gated;
  };
  for (const Kind kind : {Kind{DType::f32, false}, Kind{DType::f32, true}, Kind{DType::q8_0, false},
                          Kind{DType::q4_0, false}, Kind{DType::q4_k, true}})
    for (const std::uint32_t dim : {64u, 128u, 256u, 512u, 1024u})
      for (const std::uint32_t rows : {1u, 8u, 64u, 512u}) {
        if (dim % info(kind.type).block_elems != 0) continue;
        OpCase c{.kind = OpKind::feed_forward, .rows = rows, .dim = dim, .n = 4 * dim, .type = kind.type};
        c.act = kind.gated ? Activation::silu : Activation::gelu_tanh;
        c.gated = kind.gated;
        c.name = std::string("feed_forward/") + (kind.gated ? "gated/" : "plain/") + lower_name(kind.type) +
                 "/" + by(dim, 4 * dim) + "/n" + std::to_string(rows);
        out.push_back(c);
      }
  for (const DType type : {DType::f16, DType::q8_0})
    for (const std::uint32_t dim : {32u, 64u, 128u, 512u, 1000u})
      for (const std::uint32_t rows : {1u, 64u, 512u, 4096u}) {
        // Wide ones of few rows, where a workgroup that reads all weights is slow.
        if (dim > 128 ? rows > 64 : rows == 1) continue;
        if (dim % info(type).block_elems != 0) continue;
        OpCase c{.kind = OpKind::mlp, .rows = rows, .dim = dim, .type = type, .act = Activation::relu};
        c.layers = 4;
        c.name = "mlp/" + lower_name(type) + "/" + by(4, dim) + "/n" + std::to_string(rows);
        out.push_back(c);
      }
}

void add_attentions(std::vector<OpCase>& out) {
  struct Shape {
    std::uint32_t head_dim, heads, kv_heads, rows, keys;
    bool both;  // without causality too; a single row sees every key either way
  };
  constexpr Shape kShapes[] = {
      {64, 8, 8, 512, 512, true},    {64, 8, 8, 1024, 1024, true},   {64, 32, 8, 512, 512, true},
      {128, 8, 8, 512, 512, true},   {64, 32, 8, 1, 1024, false},    {64, 32, 8, 1, 4096, false},
      {64, 8, 8, 1, 4096, false},    {128, 32, 8, 1, 1024, false},   {128, 32, 8, 1, 4096, false},
      {128, 32, 8, 1, 32768, false}, {128, 32, 8, 4096, 4096, true},
  };
  for (const Shape& s : kShapes)
    for (const bool causal : {false, true}) {
      if (!s.both && !causal) continue;
      OpCase c{.kind = OpKind::attention,
               .rows = s.rows,
               .heads = s.heads,
               .kv_heads = s.kv_heads,
               .head_dim = s.head_dim,
               .keys = s.keys,
               .causal = causal};
      c.name = "attention/d" + std::to_string(s.head_dim) + "/h" + std::to_string(s.heads) + "kv" +
               std::to_string(s.kv_heads) + "/" + by(s.rows, s.keys) +
               (s.both ? causal ? "/causal" : "/full" : "");
      out.push_back(c);
    }
  // Rows grow and the window stays: time is to grow with rows x window, not with rows x keys.
  for (const std::uint32_t n : {1024u, 2048u, 4096u, 8192u}) {
    OpCase c{.kind = OpKind::attention,
             .rows = n,
             .heads = 8,
             .kv_heads = 8,
             .head_dim = 64,
             .keys = n,
             .causal = true,
             .window_left = 255};
    c.name = "attention/d64/h8kv8/" + by(n, n) + "/causal/window255";
    out.push_back(c);
  }
}

// Fewer blocks, and all keys without and with lists: time is to follow the blocks.
void add_sparse_attentions(std::vector<OpCase>& out) {
  OpCase c{.kind = OpKind::attention, .rows = 2048, .heads = 8, .kv_heads = 8, .head_dim = 64, .keys = 2048};
  const std::string name = "attention/d64/h8kv8/" + by(c.rows, c.keys) + "/sparse/";
  c.name = name + "dense";
  out.push_back(c);
  for (const std::uint32_t block : {16u, 64u})
    for (const std::uint32_t percent : {1u, 10u, 50u, 100u}) {
      c.block = block;
      c.percent = percent;
      c.name = name + by(block, block) + "/" + std::to_string(percent) + "%";
      out.push_back(c);
    }
}

std::shared_ptr<const UserFunctions> user_form(const OpCase& c) {
  using Type = UserBuffer::Type;
  // The row's place among the keys.
  const std::string at = "int(q + " + std::to_string(c.keys - c.rows) + ")";
  const std::string most = std::to_string(kPairDistance), heads = std::to_string(c.heads);
  const auto score = [](const std::string& value, std::vector<UserBuffer> buffers = {}) {
    const std::string head = "float score(float s, uint b, uint h, uint q, uint k) { return ";
    return UserFunctions{head + value + "; }", "", std::move(buffers)};
  };
  const auto mask = [](const std::string& value, std::vector<UserBuffer> buffers = {}) {
    const std::string head = "bool mask(uint b, uint h, uint q, uint k) { return ";
    return UserFunctions{"", head + value + "; }", std::move(buffers)};
  };
  const auto function = [&] {
    switch (c.pair) {
      case UserPair::alibi:
        return score("s - slopes[h] * abs(float(" + at + " - int(k)))", {{"slopes", Type::f32}});
      case UserPair::softcap: {
        const std::string cap = std::to_string(kPairSoftcap);
        return score(cap + " * tanh(s / " + cap + ")");
      }
      case UserPair::relative_bias:
        return score("s + bias[uint(clamp(int(k) - " + at + ", -" + most + ", " + most + ") + " + most +
                         ") * " + heads + " + h]",
                     {{"bias", Type::f32}});
      case UserPair::causal: return mask("int(k) <= " + at);
      case UserPair::window:
        return mask("int(k) <= " + at + " && " + at + " - int(k) <= " + std::to_string(c.window_left));
      case UserPair::documents: return mask("document[" + at + "] == document[k]", {{"document", Type::u32}});
      default: return score("s");
    }
  };
  return std::make_shared<const UserFunctions>(function());
}

// Each beside what attention has for the same: a user's form is to cost at most 1.2 times as much.
void add_user_pairs(std::vector<OpCase>& out) {
  struct Pair {
    UserPair pair;
    const char* name;
    bool causal;
  };
  constexpr Pair kPairs[] = {
      {UserPair::identity, "identity", false},  {UserPair::alibi, "alibi", true},
      {UserPair::softcap, "softcap", false},    {UserPair::relative_bias, "relative_bias", true},
      {UserPair::causal, "causal", true},       {UserPair::window, "window255", true},
      {UserPair::documents, "documents", false}};
  for (const Pair& pair : kPairs)
    for (const std::uint32_t rows : {1u, 512u, 2048u}) {
      OpCase c{.kind = OpKind::attention,
               .rows = rows,
               .heads = 8,
               .kv_heads = 8,
               .head_dim = 64,
               .keys = rows == 1 ? 4096 : rows,
               .causal = pair.causal,
               .window_left = pair.pair == UserPair::window ? 255 : kNoWindow};
      c.pair = pair.pair;
      const std::string name = std::string("attention/user/") + pair.name + "/" + by(c.rows, c.keys);
      c.name = name + "/built_in";
      out.push_back(c);
      c.name = name + "/glsl";
      c.user = user_form(c);
      out.push_back(std::move(c));
    }
}

// Decays of a row's elements, and of a head at once, as models with each rule have them.
void add_linear_attentions(std::vector<OpCase>& out) {
  for (const UpdateRule rule :
       {UpdateRule::linear, UpdateRule::gated, UpdateRule::delta, UpdateRule::gated_delta})
    for (const std::uint32_t dim : {64u, 128u})
      for (const std::uint32_t rows : {1u, 512u, 2048u}) {
        OpCase c{.kind = OpKind::linear_attention, .rows = rows, .heads = 8, .kv_heads = 8, .head_dim = dim};
        c.rule = rule;
        c.name = "linear_attention/" + std::string(name(rule)) + "/d" + std::to_string(dim) + "/h8/n" +
                 std::to_string(rows);
        out.push_back(c);
      }
}

void add_memory_ops(std::vector<OpCase>& out) {
  for (const std::uint32_t rows : {1u, 512u}) {
    const std::string shape = "/" + by(rows, 4096);
    OpCase norm{.kind = OpKind::norm, .rows = rows, .dim = 4096};
    norm.name = "norm/rms" + shape;
    out.push_back(norm);
    norm.residual = true;
    norm.name = "norm/rms_residual" + shape;
    out.push_back(norm);
    norm.layer_norm = true;
    norm.name = "norm/layer_residual" + shape;
    out.push_back(norm);
    out.push_back({.name = "rope/d128/h32/" + by(rows, 4096),
                   .kind = OpKind::rope,
                   .rows = rows,
                   .heads = 32,
                   .head_dim = 128,
                   .keys = 512});
    out.push_back({.name = "glu/silu/" + by(rows, 11008),
                   .kind = OpKind::glu,
                   .rows = rows,
                   .dim = 11008,
                   .act = Activation::silu});
    out.push_back({.name = "add" + shape, .kind = OpKind::add, .rows = rows, .dim = 4096});
    for (const DType type : {DType::f16, DType::q4_0})
      out.push_back({.name = "embedding/" + lower_name(type) + shape,
                     .kind = OpKind::embedding,
                     .rows = rows,
                     .dim = 4096,
                     .n = 32000,
                     .type = type});
  }
}

void add_samples(std::vector<OpCase>& out) {
  for (const std::uint32_t vocab : {32000u, 128256u}) {
    OpCase c{.kind = OpKind::sample, .n = vocab};
    c.name = "sample/greedy/" + std::to_string(vocab);
    out.push_back(c);
    c.sampler.temperature = 0.8f;
    c.sampler.top_k = 40;
    c.sampler.top_p = 0.95f;
    c.name = "sample/top_k_top_p/" + std::to_string(vocab);
    out.push_back(c);
  }
}

// Of attention: of a row and a key that it sees, of a head.
double pairs(const OpCase& c) {
  if (c.block == 0) return c.visible().pairs;
  const std::uint32_t blocks = (c.rows + c.block - 1) / c.block;
  return static_cast<double>(c.lists(0, blocks).size() - blocks - 1) * c.block * c.block;
}

double weight_bytes(const OpCase& c, double elements) {
  return elements / info(c.type).block_elems * info(c.type).block_bytes;
}

}  // namespace

VisibleKeys OpCase::visible() const {
  if (pair == UserPair::documents) return {double(rows) * kPairDocument, std::max(rows, kPairDocument)};
  AttentionAttrs a;
  a.q_len = rows;
  a.kv_len = keys;
  a.causal = causal ? Causal::bottom_right : Causal::none;
  a.window_left = window_left;
  return visible_keys(a, 0, rows);
}

std::vector<std::uint32_t> OpCase::lists(std::uint32_t first, std::uint32_t count) const {
  const std::uint32_t across = (keys + block - 1) / block, blocks = (rows + block - 1) / block * across;
  std::vector<std::uint32_t> order(blocks);
  std::iota(order.begin(), order.end(), 0u);
  std::uint64_t state = 1;
  for (std::uint32_t i = 1; i < blocks; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    std::swap(order[i], order[(state >> 33) % (i + 1)]);
  }
  order.resize(static_cast<std::size_t>(std::lround(blocks * (percent / 100.0))));
  std::ranges::sort(order);
  std::vector<std::uint32_t> firsts, entries;
  for (std::uint32_t row = first; row < first + count; ++row) {
    firsts.push_back(static_cast<std::uint32_t>(entries.size()));
    const auto begin = std::ranges::lower_bound(order, row * across);
    for (auto it = begin; it != order.end() && *it / across == row; ++it) entries.push_back(*it % across);
  }
  firsts.push_back(static_cast<std::uint32_t>(entries.size()));
  firsts.insert(firsts.end(), entries.begin(), entries.end());
  return firsts;
}

double OpCase::flops() const {
  if (kind == OpKind::matmul) return 2.0 * rows * n * dim;
  if (kind == OpKind::feed_forward) return (gated ? 6.0 : 4.0) * rows * n * dim;
  if (kind == OpKind::mlp) return 2.0 * rows * layers * dim * dim;
  if (kind == OpKind::linear_attention)
    return 2.0 * rows * heads * head_dim * head_dim * (is_delta(rule) ? 3 : 2);
  if (kind == OpKind::attention) return 4.0 * heads * head_dim * pairs(*this);
  return 0;
}

double OpCase::bytes() const {
  const double elements = 4.0 * rows * dim;  // of one f32 activation, in bytes
  const double q = 4.0 * rows * heads * head_dim;
  switch (kind) {
    case OpKind::matmul:
      return weight_bytes(*this, double(n) * dim) +
             info(io).block_bytes * (double(rows) * dim + double(rows) * n);
    case OpKind::feed_forward: return weight_bytes(*this, (gated ? 3.0 : 2.0) * n * dim) + 2 * elements;
    case OpKind::mlp: return weight_bytes(*this, double(layers) * dim * dim) + 2 * elements;
    case OpKind::attention:
      return 2 * q + 2.0 * kv_heads * double(visible().keys) * head_dim * info(kv_type).block_bytes;
    case OpKind::linear_attention:
      return 4 * q + 4.0 * rows * heads * (rule == UpdateRule::gated ? head_dim : 1) +
             4.0 * heads * head_dim * head_dim * (rows == 1 ? 2 : 0);
    case OpKind::norm: return elements * (residual ? 4 : 2);
    case OpKind::rope: return 2 * q;
    case OpKind::glu:
    case OpKind::add: return 3 * elements;
    case OpKind::embedding: return weight_bytes(*this, double(rows) * dim) + elements;
    case OpKind::sample: return 4.0 * n;
    default: return 0;
  }
}

std::vector<OpCase> op_cases() {
  std::vector<OpCase> out;
  add_matmuls(out);
  add_feed_forwards(out);
  add_attentions(out);
  add_sparse_attentions(out);
  add_user_pairs(out);
  add_linear_attentions(out);
  add_memory_ops(out);
  add_samples(out);
  return out;
}

}  // namespace tessera::bench
