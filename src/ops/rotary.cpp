// rotary_embedding: the graph's rope over a table with one row per (batch, position).
#include <algorithm>

#include "ops/builders.h"
#include "ops/op_program.h"
#include "ops/rotary_table.h"

namespace tessera {
namespace {

using Kind = OpAttributeInfo::Kind;

constexpr OpTensorInfo kIn[] = {
    {"X", kReals, "(batch, num_heads, len, head_dim) or (batch, len, num_heads*head_dim)", false, {}},
    {"cos_cache", kReals, "(positions, dims/2), or without position_ids (batch, len, dims/2)", false, {}},
    {"sin_cache", kReals, "like cos_cache", false, {}},
    {"position_ids", kIntegers, "(batch, len)", true, "rows of the caches"}};
constexpr OpTensorInfo kOut[] = {{"Y", "like X", "like X", false, {}}};
constexpr OpAttributeInfo kAttrs[] = {
    {"interleaved", Kind::integer, "0", "0 or 1", "pairs are (2i, 2i+1); else (i, i + dims/2)", 0, 1},
    {"num_heads", Kind::integer, "0", ">= 0", "of a 3-D X, which must say it", 0, kMostCount},
    {"rotary_embedding_dim", Kind::integer, "0", ">= 0",
     "dims: how many leading elements of a head turn; 0: all", 0, kMostCount}};

Error different_caches(const Arguments& args) {
  return args.refuse("sin_cache is " + shape_text(args.in("sin_cache").shape()) + ", cos_cache is " +
                     shape_text(args.in("cos_cache").shape()));
}

struct Sizes {
  std::uint64_t batch = 0, len = 0, heads = 0, head_dim = 0, dims = 0;
  bool heads_first = false;
};

Result<Sizes> sizes_of(const Arguments& args) {
  const OpInput& x = args.in("X");
  Sizes s;
  const auto heads = static_cast<std::uint64_t>(args.integer("num_heads"));
  if (x.rank() == 4) {
    s = {x.shape()[0], x.shape()[2], x.shape()[1], x.shape()[3], 0, true};
    if (heads != 0 && heads != s.heads)
      return args.refuse("num_heads is " + std::to_string(heads) + ", X has " + std::to_string(s.heads));
  } else if (x.rank() == 3) {
    if (heads == 0) return args.refuse("num_heads is needed for a 3-D X");
    if (x.shape()[2] % heads != 0)
      return args.refuse("X has rows of " + std::to_string(x.shape()[2]) + ", no multiple of num_heads " +
                         std::to_string(heads));
    s = {x.shape()[0], x.shape()[1], heads, x.shape()[2] / heads, 0, false};
  } else {
    return args.refuse("X is " + shape_text(x.shape()) + ", it must have 3 or 4 dimensions");
  }
  TSR_TRY(s.dims, rotary_dims(args, s.head_dim));
  return s;
}

Result<void> check_caches(const Arguments& args, const Sizes& s) {
  const OpInput &cosine = args.in("cos_cache"), &sine = args.in("sin_cache");
  const OpInput* ids = args.find("position_ids");
  const std::uint64_t by_row[] = {s.batch, s.len, s.dims / 2};
  if (ids == nullptr) {
    if (cosine.shape() != sine.shape()) return different_caches(args);
    if (!std::ranges::equal(cosine.shape(), by_row))
      return args.refuse("cos_cache is " + shape_text(cosine.shape()) + ", without position_ids it must be " +
                         shape_text(by_row));
    return {};
  }
  TSR_CHECK(check_rotary_caches(args, s.dims));
  if (!std::ranges::equal(ids->shape(), std::span(by_row).first(2)))
    return args.refuse("position_ids is " + shape_text(ids->shape()) + ", X has (batch, len) " +
                       shape_text(std::span(by_row).first(2)));
  return {};
}

Result<std::vector<float>> table_of(const Arguments& args, const OpProgram& p, const Sizes& s) {
  std::vector<std::uint32_t> rows;
  if (args.has("position_ids")) {
    const std::uint64_t positions = args.in("cos_cache").shape()[0];
    TSR_TRY(rows, args.words("position_ids", positions - 1,
                             "cos_cache has " + std::to_string(positions) + " rows"));
  }
  return rotary_table(p, s.dims, rows, s.batch * s.len);
}

}  // namespace

const OpInfo kRotaryOp{
    "rotary_embedding",
    "RotaryEmbedding: pairs of a head's elements turned by position",
    "(a, b) -> (a cos - b sin, b cos + a sin) for each pair of the first dims elements of a "
    "head.\nF16 and BF16 are converted from and to F32 on the host.",
    kIn,
    kOut,
    kAttrs};

Result<std::uint64_t> rotary_dims(const Arguments& args, std::uint64_t head_dim) {
  const auto wanted = static_cast<std::uint64_t>(args.integer("rotary_embedding_dim"));
  const std::uint64_t dims = wanted == 0 ? head_dim : wanted;
  if (dims <= head_dim && dims % 2 == 0) return dims;
  return args.refuse((wanted == 0 ? "head_dim" : "rotary_embedding_dim") + std::string(" is ") +
                     std::to_string(dims) + ", it must be even and at most the " + std::to_string(head_dim) +
                     " elements of a head");
}

Result<void> check_rotary_caches(const Arguments& args, std::uint64_t dims) {
  const OpInput& cosine = args.in("cos_cache");
  if (cosine.shape() != args.in("sin_cache").shape()) return different_caches(args);
  if (cosine.rank() == 2 && cosine.shape()[1] == dims / 2) return {};
  return args.refuse("cos_cache is " + shape_text(cosine.shape()) + ", it must be (positions, " +
                     std::to_string(dims / 2) + ")");
}

std::vector<float> rotary_table(const OpProgram& p, std::uint64_t dims, std::span<const std::uint32_t> rows,
                                std::uint64_t count) {
  const std::vector<float> cosine = p.floats("cos_cache"), sine = p.floats("sin_cache");
  if (cosine.empty() || sine.empty()) return {};
  const std::uint64_t half = dims / 2;
  std::vector<float> table(count * dims);
  for (std::uint64_t row = 0; row < count; ++row) {
    const std::uint64_t from = (rows.empty() ? row : rows[row]) * half;
    for (std::uint64_t i = 0; i < half; ++i) {
      table[(row * half + i) * 2] = cosine[from + i];
      table[(row * half + i) * 2 + 1] = sine[from + i];
    }
  }
  return table;
}

Result<BuiltOp> build_rotary(const Arguments& args) {
  TSR_TRY(const Sizes s, sizes_of(args));
  TSR_CHECK(check_caches(args, s));
  const OpInput& x = args.in("X");
  OpProgram p(args, "rotary_embedding");
  TSR_TRY(std::vector<float> table, table_of(args, p, s));
  const std::uint64_t rows = s.batch * s.len;
  std::vector<std::uint64_t> shape{rows, s.heads * s.head_dim};
  if (s.heads_first) shape = {s.batch, s.heads, s.len, s.head_dim};
  const ValueId in = p.given("X", DType::f32, shape);
  OpProgram::Inputs sources{"cos_cache", "sin_cache"};
  if (args.has("position_ids")) sources.emplace_back("position_ids");
  const ValueId turns = p.constant("table", {rows, s.dims / 2, 2}, std::move(table), std::move(sources));
  const ValueId y = p.add("Y", Storage::output, DType::f32, shape);
  OpAttrs attrs;
  attrs.heads = static_cast<std::uint32_t>(s.heads);
  attrs.head_dim = static_cast<std::uint32_t>(s.head_dim);
  attrs.rope_dims = static_cast<std::uint32_t>(s.dims);
  attrs.rope_adjacent = args.integer("interleaved") != 0;
  attrs.table_by_row = true;
  attrs.attention.batch = static_cast<std::uint32_t>(s.batch);
  attrs.attention.q_len = static_cast<std::uint32_t>(s.len);
  attrs.attention.heads_first = s.heads_first;
  p.op(OpKind::rope, attrs, {in, turns, kNoValue}, {y});
  p.output("Y", x.type(), x.shape(), y);
  return p.finish({});
}

}  // namespace tessera
