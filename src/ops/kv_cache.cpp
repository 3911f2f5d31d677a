// kv_append, rope_append: rows written into KV caches, contiguous, paged or rings.
#include <algorithm>

#include "ops/builders.h"
#include "ops/op_program.h"
#include "ops/rotary_table.h"

namespace tessera {
namespace {

using Kind = OpAttributeInfo::Kind;
using Shape = std::vector<std::uint64_t>;

constexpr std::string_view kCacheShape =
    "(batch, kv_heads, capacity, dim), with block_table (blocks, kv_heads, block_size, dim)";
constexpr OpTensorInfo kTable{"block_table", kIntegers, "(batch, blocks of a sequence)", true,
                              "paged: key j lies in block block_table[b, j/block_size]"};
constexpr OpAttributeInfo kPosition{
    "position", Kind::integer, "0", ">= 0", "keys already there: row i becomes key position + i",
    0,          kMostCount};
constexpr OpAttributeInfo kMode{"mode", Kind::choice, "linear", "linear|circular",
                                "circular: key j goes to j % capacity"};
constexpr OpAttributeInfo kCacheType{"cache_type", Kind::choice, "stored", "stored|F32|F16|BF16|Q8_0",
                                     "what the device holds caches in; Q8_0 in blocks of 32 elements"};

constexpr OpTensorInfo kAppendIn[] = {
    {"past_cache", kReals, kCacheShape, false, {}},
    {"update", kReals, "(batch, kv_heads, len, dim) or (batch, len, kv_heads*dim)", false, "the rows"},
    kTable};
constexpr OpTensorInfo kAppendOut[] = {{"present_cache", "like past_cache", "like past_cache", false, {}}};
constexpr OpAttributeInfo kAppendAttrs[] = {kPosition, kMode, kCacheType};

constexpr OpTensorInfo kRopeIn[] = {{"QKV", kReals, "(batch, len, (q_heads + kv_heads)*dim + kv_heads*v_dim)",
                                     false, "query heads, key heads, value heads"},
                                    {"cos_cache", kReals, "(positions, dims/2)", false, {}},
                                    {"sin_cache", kReals, "like cos_cache", false, {}},
                                    {"past_key", kReals, kCacheShape, false, {}},
                                    {"past_value", kReals, "like past_key, with v_dim for dim", false, {}},
                                    kTable};
constexpr OpTensorInfo kRopeOut[] = {{"Q", "like QKV", "(batch, len, q_heads*dim)", false, {}},
                                     {"present_key", "like past_key", "like past_key", false, {}},
                                     {"present_value", "like past_value", "like past_value", false, {}}};
constexpr OpAttributeInfo kRopeAttrs[] = {
    kPosition,
    kMode,
    kCacheType,
    {"interleaved", Kind::integer, "0", "0 or 1", "pairs are (2i, 2i+1); else (i, i + dims/2)", 0, 1},
    {"rotary_embedding_dim", Kind::integer, "0", ">= 0",
     "dims: how many leading elements of a head turn; 0: all", 0, kMostCount}};

// What an append is asked to do, but for the rows.
struct Append {
  std::uint64_t batch = 0, len = 0, kv_heads = 0, position = 0;
  std::uint64_t capacity = 0;  // keys of a sequence
  std::uint64_t slots = 0;     // keys of a sequence, or of a block
  std::uint64_t blocks = 0;    // 0: not paged
  bool ring = false;
  DType type = DType::f32;

  OpAttrs attrs(std::uint64_t dim) const {
    OpAttrs out;
    out.kv_heads = static_cast<std::uint32_t>(kv_heads);
    out.head_dim = static_cast<std::uint32_t>(dim);
    out.attention.batch = static_cast<std::uint32_t>(batch);
    out.attention.q_len = static_cast<std::uint32_t>(len);
    out.attention.block_size = static_cast<std::uint32_t>(blocks != 0 ? slots : 0);
    out.attention.ring = ring;
    return out;
  }
  StepState state() const {
    return {.position = static_cast<std::uint32_t>(position), .rows = static_cast<std::uint32_t>(len)};
  }
};

DType cache_type(const Arguments& args, std::string_view cache, std::string_view other) {
  const std::string wanted = args.choice("cache_type");
  if (wanted != "stored") return *parse_dtype(wanted);
  const DType type = args.in(cache).real();
  return other.empty() || args.in(other).real() == type ? type : DType::f32;
}

// Of rows for `batch` sequences; `cache` has four dimensions.
Result<Append> append_of(const Arguments& args, std::string_view cache, std::uint64_t batch,
                         std::uint64_t len) {
  const Shape& shape = args.in(cache).shape();
  Append a;
  a.batch = batch;
  a.len = len;
  a.kv_heads = shape[1];
  a.slots = a.capacity = shape[2];
  a.position = static_cast<std::uint64_t>(args.integer("position"));
  a.ring = args.choice("mode") == "circular";
  const OpInput* table = args.find("block_table");
  if (table != nullptr) {
    if (table->rank() != 2 || table->shape()[0] != batch)
      return args.refuse("block_table is " + shape_text(table->shape()) + ", it must be (" +
                         std::to_string(batch) + ", blocks)");
    a.blocks = shape[0];
    a.capacity = table->shape()[1] * a.slots;
  } else if (shape[0] != batch) {
    return args.refuse(std::string(cache) + " has " + std::to_string(shape[0]) + " sequences, there are " +
                       std::to_string(batch) + " of rows");
  }
  const std::string rows = std::to_string(len) + " rows, " + std::string(cache) + " holds " +
                           std::to_string(a.capacity) + " keys of a sequence";
  if (a.ring && len > a.capacity) return args.refuse("there are " + rows);
  if (!a.ring && a.position + len > a.capacity)
    return args.refuse("position is " + std::to_string(a.position) + " and there are " + rows);
  if (a.position + len > 0xffffffffull) return args.refuse("position is past 2^32");
  return a;
}

Result<void> check_type(const Arguments& args, const Append& a, std::string_view cache) {
  const std::uint64_t dim = args.in(cache).shape().back();
  if (a.type != DType::q8_0 || dim % 32 == 0) return {};
  return args.refuse(std::string(cache) + " has " + std::to_string(dim) +
                     " elements a head, cache_type Q8_0 takes multiples of 32");
}

// The block table of a paged cache. Entries that no row goes to may be anything, but are kept where they can:
// a host that moves the position comes to them. Two rows of one block are the caller's mistake.
Result<ValueId> block_table(const Arguments& args, OpProgram& p, const Append& a) {
  const OpInput* table = args.find("block_table");
  if (table == nullptr) return kNoValue;
  std::vector<std::uint32_t> words = blocks_of(args, a.blocks);
  const std::uint64_t columns = table->shape()[1];
  const bool known = args.known("block_table");
  std::vector<std::uint64_t> owner(known ? a.blocks : 0, a.batch);
  for (std::uint64_t key = a.position; key < a.position + a.len && known; ++key)
    for (std::uint64_t b = 0; b < a.batch; ++b) {
      const std::uint64_t column = key % a.capacity / a.slots, i = b * columns + column;
      const std::int64_t block = args.word(*table, i);
      const std::string entry = "block_table[" + std::to_string(b) + ", " + std::to_string(column) + "] is " +
                                std::to_string(block);
      if (block < 0 || static_cast<std::uint64_t>(block) >= a.blocks)
        return args.refuse(entry + ", there are " + std::to_string(a.blocks) + " blocks");
      if (owner[words[i]] == a.batch) owner[words[i]] = b;
      if (owner[words[i]] != b)
        return args.refuse(entry + ", which sequence " + std::to_string(owner[words[i]]) +
                           " is written to as well");
    }
  return p.words("block_table", table->shape(), std::move(words), {"block_table"});
}

}  // namespace

std::vector<std::uint32_t> blocks_of(const Arguments& args, std::uint64_t blocks) {
  if (!args.known("block_table")) return {};
  const OpInput& table = args.in("block_table");
  std::vector<std::uint32_t> out(table.elems);
  for (std::uint64_t i = 0; i < table.elems; ++i)
    if (const std::int64_t block = args.word(table, i);
        block >= 0 && static_cast<std::uint64_t>(block) < blocks)
      out[i] = static_cast<std::uint32_t>(block);
  return out;
}

const OpInfo kKvAppendOp{
    "kv_append",
    "TensorScatter: rows written into a KV cache",
    "present_cache[b, h, position + i] = update[b, h, i]; everything else stays as it was in past_cache.\n"
    "The device quantises to Q8_0 as the file format has it: scale max|x|/127 of each 32 elements.",
    kAppendIn,
    kAppendOut,
    kAppendAttrs};
const OpInfo kRopeAppendOp{
    "rope_append",
    "Rotary embedding of queries and keys, keys and values written into their caches",
    "Q = turned query heads; present_key[b, h, position + i] = turned key heads of row i;\n"
    "present_value likewise, not turned. Row i turns by row position + i of cos_cache and sin_cache.",
    kRopeIn,
    kRopeOut,
    kRopeAttrs};

Result<BuiltOp> build_kv_append(const Arguments& args) {
  const OpInput &cache = args.in("past_cache"), &x = args.in("update");
  if (cache.rank() != 4)
    return args.refuse("past_cache is " + shape_text(cache.shape()) + ", it must be 4-D");
  const std::uint64_t heads = cache.shape()[1], dim = cache.shape()[3];
  const bool heads_first = x.rank() == 4;
  const bool fits = heads_first ? x.shape()[1] == heads && x.shape()[3] == dim
                                : x.rank() == 3 && x.shape()[2] == heads * dim;
  if (!fits)
    return args.refuse("update is " + shape_text(x.shape()) + ", past_cache " + shape_text(cache.shape()) +
                       " takes (batch, " + std::to_string(heads) + ", len, " + std::to_string(dim) +
                       ") or (batch, len, " + std::to_string(heads * dim) + ")");
  TSR_TRY(Append a, append_of(args, "past_cache", x.shape()[0], x.shape()[heads_first ? 2 : 1]));
  a.type = cache_type(args, "past_cache", {});
  TSR_CHECK(check_type(args, a, "past_cache"));
  OpProgram p(args, "kv_append");
  Shape shape{a.batch * a.len, heads * dim};
  if (heads_first) shape = x.shape();
  const ValueId rows = p.given("update", DType::f32, shape);
  const ValueId held = p.cache("past_cache", a.type, cache.shape());
  TSR_TRY(const ValueId table, block_table(args, p, a));
  OpAttrs attrs = a.attrs(dim);
  attrs.attention.heads_first = heads_first;
  p.op(OpKind::kv_append, attrs, {rows, p.state(), held, table}, {held});
  p.output("present_cache", cache.type(), cache.shape(), held);
  return p.finish(a.state(), a.len);
}

Result<BuiltOp> build_rope_append(const Arguments& args) {
  const OpInput &x = args.in("QKV"), &k = args.in("past_key"), &v = args.in("past_value");
  if (k.rank() != 4 || v.rank() != 4)
    return args.refuse("past_key is " + shape_text(k.shape()) + ", past_value " + shape_text(v.shape()) +
                       ": both must be 4-D");
  if (!std::ranges::equal(std::span(k.shape()).first(3), std::span(v.shape()).first(3)))
    return args.refuse("past_value is " + shape_text(v.shape()) + ", past_key is " + shape_text(k.shape()) +
                       ": all but the last dimension must be equal");
  const std::uint64_t kv_heads = k.shape()[1], dim = k.shape()[3], v_dim = v.shape()[3];
  const std::uint64_t kv_width = kv_heads * (dim + v_dim);
  if (x.rank() != 3 || x.shape()[2] <= kv_width || (x.shape()[2] - kv_width) % dim != 0)
    return args.refuse("QKV is " + shape_text(x.shape()) + ", it must be (batch, len, q_heads*" +
                       std::to_string(dim) + " + " + std::to_string(kv_width) + ")");
  const std::uint64_t heads = (x.shape()[2] - kv_width) / dim;
  TSR_TRY(Append a, append_of(args, "past_key", x.shape()[0], x.shape()[1]));
  a.type = cache_type(args, "past_key", "past_value");
  TSR_CHECK(check_type(args, a, "past_key"));
  TSR_CHECK(check_type(args, a, "past_value"));
  TSR_TRY(const std::uint64_t dims, rotary_dims(args, dim));
  TSR_CHECK(check_rotary_caches(args, dims));
  const std::uint64_t positions = args.in("cos_cache").shape()[0];
  if (a.position + a.len > positions)
    return args.refuse("position is " + std::to_string(a.position) + " and QKV has " + std::to_string(a.len) +
                       " rows, cos_cache has " + std::to_string(positions));

  OpProgram p(args, "rope_append");
  const std::uint64_t rows = a.batch * a.len;
  const ValueId qkv = p.given("QKV", DType::f32, {rows, x.shape()[2]});
  const ValueId turns = p.constant("table", {positions, dims / 2, 2}, rotary_table(p, dims, {}, positions),
                                   {"cos_cache", "sin_cache"});
  const ValueId k_cache = p.cache("past_key", a.type, k.shape());
  const ValueId v_cache = p.cache("past_value", a.type, v.shape());
  TSR_TRY(const ValueId table, block_table(args, p, a));
  const ValueId q = p.add("Q", Storage::output, DType::f32, {rows, heads * dim});
  OpAttrs attrs = a.attrs(dim);
  attrs.heads = static_cast<std::uint32_t>(heads);
  attrs.rope_dims = static_cast<std::uint32_t>(dims);
  attrs.rope_adjacent = args.integer("interleaved") != 0;
  attrs.attention.v_dim = static_cast<std::uint32_t>(v_dim);
  p.op(OpKind::rope_append, attrs, {qkv, turns, p.state(), k_cache, v_cache, table}, {q, k_cache, v_cache});
  p.output("Q", x.type(), {a.batch, a.len, heads * dim}, q);
  p.output("present_key", k.type(), k.shape(), k_cache);
  p.output("present_value", v.type(), v.shape(), v_cache);
  return p.finish(a.state(), a.len);
}

}  // namespace tessera
