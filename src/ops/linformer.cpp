// Keys and values projected along the sequence, K' = E K and V' = F V: as sums of outer products, which the
// state of a linear attention is; then attention over them.
#include <cmath>

#include "ops/builders.h"
#include "ops/op_program.h"

namespace tessera {
namespace {

using Kind = OpAttributeInfo::Kind;
using Shape = std::vector<std::uint64_t>;

constexpr OpTensorInfo kIn[] = {
    {"Q", kReals, "(batch, q_heads, q_len, dim) or (batch, q_len, q_heads*dim)", false, {}},
    {"K", kReals, "(batch, kv_heads, keys, dim) or (batch, keys, kv_heads*dim)", false, {}},
    {"V", kReals, "like K, with v_dim for dim", false, {}},
    {"E", kReals, "(rank, keys)", false, "projects keys, of all heads and sequences"},
    {"F", kReals, "(rank, keys)", true, "projects values; E without it"}};
constexpr OpTensorInfo kOut[] = {{"Y", "like Q", "like Q, with v_dim for dim", false, {}}};
constexpr OpAttributeInfo kAttrs[] = {
    {"q_num_heads", Kind::integer, "", ">= 1", "q_heads of a 3-D Q", 1, kMostCount},
    {"kv_num_heads", Kind::integer, "", ">= 1", "kv_heads of a 3-D K and V", 1, kMostCount},
    {"scale", Kind::number, "", "finite", "1/sqrt(dim) without it"}};

class LinformerBuilder {
 public:
  explicit LinformerBuilder(const Arguments& args)
      : args_(args), p_(args, "linformer_attention"), packed_(args.in("Q").rank() == 3) {}

  Result<BuiltOp> run() {
    TSR_TRY(q_, heads_of("Q", "q_num_heads"));
    TSR_TRY(k_, heads_of("K", "kv_num_heads"));
    TSR_TRY(v_, heads_of("V", "kv_num_heads"));
    TSR_CHECK(check_sizes());
    const ValueId e = projection("E"), f = args_.has("F") ? projection("F") : e;
    const ValueId keys = project("K", k_, e), values = project("V", v_, f);
    attend(keys, values);
    return p_.finish({});
  }

 private:
  struct Heads {
    std::uint64_t batch = 0, heads = 0, len = 0, dim = 0;
  };

  Result<Heads> heads_of(std::string_view name, std::string_view heads_name) const {
    const Shape& s = args_.in(name).shape();
    if (s.size() != (packed_ ? 3u : 4u))
      return args_.refuse(std::string(name) + " is " + shape_text(s) + ", Q is " +
                          shape_text(args_.in("Q").shape()) +
                          ": all of Q, K, V must have 3 dimensions, or 4");
    const auto given = static_cast<std::uint64_t>(args_.integer(heads_name));
    if (!packed_ && given != 0 && given != s[1])
      return args_.refuse(std::string(heads_name) + " is " + std::to_string(given) + ", " +
                          std::string(name) + " is " + shape_text(s));
    if (!packed_) return Heads{s[0], s[1], s[2], s[3]};
    if (given == 0 || s[2] % given != 0)
      return args_.refuse(std::string(name) + " is " + shape_text(s) + ", " + std::string(heads_name) +
                          " must be there and divide its rows");
    return Heads{s[0], given, s[1], s[2] / given};
  }

  Result<void> check_sizes() {
    if (k_.len != v_.len) return args_.differ("K", k_.len, "V", v_.len, "keys");
    if (k_.heads != v_.heads) return args_.differ("K", k_.heads, "V", v_.heads, "heads");
    if (q_.dim != k_.dim) return args_.differ("Q", q_.dim, "K", k_.dim, "elements a head");
    for (const auto& [name, heads] : {std::pair("K", k_), {"V", v_}})
      if (q_.batch != heads.batch) return args_.differ("Q", q_.batch, name, heads.batch, "sequences");
    if (q_.heads % k_.heads != 0)
      return args_.refuse("Q has " + std::to_string(q_.heads) + " heads, no multiple of K's " +
                          std::to_string(k_.heads));
    for (const auto& [name, dim] : {std::pair("Q", q_.dim), {"V", v_.dim}})
      if (dim > kMaxHeadDim)
        return args_.unsupported(std::string(name) + " has heads of " + std::to_string(dim) +
                                 " elements, at most " + std::to_string(kMaxHeadDim) + " are taken");
    const Shape& e = args_.in("E").shape();
    for (const char* name : {"E", "F"})
      if (const OpInput* input = args_.find(name);
          input != nullptr && (input->rank() != 2 || input->shape() != e || e[1] != k_.len))
        return args_.refuse(std::string(name) + " is " + shape_text(input->shape()) + ", it must be (" +
                            (e.size() == 2 ? std::to_string(e[0]) : "rank") + ", " + std::to_string(k_.len) +
                            "): K has " + std::to_string(k_.len) + " keys");
    rank_ = e[0];
    if (rank_ > kMaxStateRows)
      return args_.unsupported("E has a rank of " + std::to_string(rank_) + ", at most " +
                               std::to_string(kMaxStateRows) + " are taken");
    return {};
  }

  // A column for each key, as the rows of keys that a linear attention has.
  ValueId projection(const char* name) {
    std::vector<std::byte> bytes;
    if (args_.known(name)) {
      const std::vector<float> matrix = p_.floats(name);
      std::vector<float> columns(matrix.size());
      for (std::uint64_t i = 0; i < rank_; ++i)
        for (std::uint64_t j = 0; j < k_.len; ++j) columns[j * rank_ + i] = matrix[i * k_.len + j];
      bytes = encode(DType::f32, columns);
    }
    return p_.given_bytes(name, DType::f32, {k_.len, rank_}, std::move(bytes), {name});
  }

  // (sequences, 1, rank, columns), where all heads of a packed row are one sequence's.
  ValueId project(const char* name, const Heads& h, ValueId rows) {
    const std::uint64_t sequences = packed_ ? h.batch : h.batch * h.heads;
    const std::uint64_t columns = packed_ ? h.heads * h.dim : h.dim;
    const ValueId x = p_.given(name, args_.in(name).real(), {sequences * h.len, columns});
    const ValueId projected = p_.add(std::string("projected_") + name, Storage::activation, DType::f32,
                                     {sequences, 1, rank_, columns});
    OpAttrs attrs;
    attrs.linear.batch = static_cast<std::uint32_t>(sequences);
    attrs.linear.len = static_cast<std::uint32_t>(h.len);
    attrs.linear.k_dim = static_cast<std::uint32_t>(rank_);
    attrs.linear.v_dim = static_cast<std::uint32_t>(columns);
    attrs.linear.shared_keys = true;
    std::vector<ValueId> in(static_cast<std::size_t>(LinearIn::count), kNoValue);
    in[static_cast<std::size_t>(LinearIn::k)] = rows;
    in[static_cast<std::size_t>(LinearIn::v)] = x;
    p_.op(OpKind::linear_attention, attrs, std::move(in), {kNoValue, projected, kNoValue});
    return projected;
  }

  // Of projected keys or values.
  Strides strides_of(const Heads& h) const {
    if (packed_) return {rank_ * h.heads * h.dim, h.dim, h.heads * h.dim, 1};
    return {h.heads * rank_ * h.dim, rank_ * h.dim, h.dim, 1};
  }
  Shape rows_shape(std::uint64_t dim) const {
    if (packed_) return {q_.batch * q_.len, q_.heads * dim};
    return {q_.batch, q_.heads, q_.len, dim};
  }

  void attend(ValueId keys, ValueId values) {
    const auto u32 = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
    const OpInput& query = args_.in("Q");
    OpAttrs attrs;
    AttentionAttrs& a = attrs.attention;
    a.batch = u32(q_.batch);
    a.q_len = u32(q_.len);
    a.kv_len = u32(rank_);
    a.heads = u32(q_.heads);
    a.kv_heads = u32(k_.heads);
    a.head_dim = u32(q_.dim);
    a.v_dim = u32(v_.dim);
    a.scale = args_.given("scale") ? static_cast<float>(args_.number("scale"))
                                   : 1 / std::sqrt(static_cast<float>(q_.dim));
    a.heads_first = !packed_;
    a.k_strides = strides_of(k_);
    a.v_strides = strides_of(v_);
    std::vector<ValueId> in(static_cast<std::size_t>(AttentionIn::count), kNoValue);
    in[static_cast<std::size_t>(AttentionIn::q)] = p_.given("Q", query.real(), rows_shape(q_.dim));
    in[static_cast<std::size_t>(AttentionIn::k)] = keys;
    in[static_cast<std::size_t>(AttentionIn::v)] = values;
    const ValueId y = p_.add("Y", Storage::output, query.real(), rows_shape(v_.dim));
    p_.op(OpKind::attention, attrs, std::move(in), {y, kNoValue, kNoValue});
    Shape shape = query.shape();
    shape.back() = packed_ ? q_.heads * v_.dim : v_.dim;
    p_.output("Y", query.type(), std::move(shape), y);
  }

  const Arguments& args_;
  OpProgram p_;
  bool packed_;
  Heads q_, k_, v_;
  std::uint64_t rank_ = 0;
};

}  // namespace

const OpInfo kLinformerOp{
    "linformer_attention",
    "Attention over keys and values of low rank along the sequence",
    "K' = E K, V' = F V: rank keys and values of each head\n"
    "Y_i = sum_j softmax_j(scale * (Q_i . K'_j)) V'_j\n"
    "Query head h reads key head h / (q_heads / kv_heads). Not causal: a projected key is of\n"
    "all keys. K' and V' are F32 for tensors of any type.",
    kIn,
    kOut,
    kAttrs};

Result<BuiltOp> build_linformer(const Arguments& args) { return LinformerBuilder(args).run(); }

}  // namespace tessera
