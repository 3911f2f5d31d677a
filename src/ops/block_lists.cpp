#include "ops/block_lists.h"

#include <algorithm>
#include <set>

namespace tessera {
namespace {

std::uint64_t mixed(std::uint64_t x) {  // splitmix64: Steele, Lea, Flood, OOPSLA 2014
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// The blocks that a row block names are [0, globals), [near, far) and `random` of those between and behind.
std::vector<std::uint32_t> list_of(const SparseShape& s, std::uint64_t row) {
  const std::uint64_t first = std::min(s.globals, s.blocks);
  const std::uint64_t near = row < first ? first : std::max(first, row - std::min(row, s.window));
  const std::uint64_t far = row < first ? s.blocks : std::min(s.blocks, row + s.window + 1);
  std::set<std::uint64_t> blocks;
  for (std::uint64_t key = 0; key < first; ++key) blocks.insert(key);
  for (std::uint64_t key = near; key < far; ++key) blocks.insert(key);
  const std::uint64_t others = s.blocks - blocks.size(), wanted = blocks.size() + std::min(others, s.random);
  for (std::uint64_t state = mixed(s.seed ^ mixed(row)); blocks.size() < wanted; state = mixed(state)) {
    const std::uint64_t other = first + state % others;
    blocks.insert(other < near ? other : other + (far - near));
  }
  return {blocks.begin(), blocks.end()};
}

// Entries that lists of a shape may have.
constexpr double kMostEntries = 0x1p28;

Result<SparseShape> sparse_shape(const Arguments& args, const AttentionAttrs& a) {
  const auto number = [&](const char* name) { return static_cast<std::uint64_t>(args.integer(name)); };
  const bool bigbird = args.choice("sparsity") == "bigbird";
  if (!bigbird && args.given("sparse_random")) return args.refuse("sparse_random is of sparsity=bigbird");
  if (a.q_block != a.k_block || a.q_len != a.kv_len)
    return args.refuse("sparsity needs as many keys as rows, and q_block and k_block of one size");
  const SparseShape shape{list_rows(a), number("sparse_window"), number("sparse_global"),
                          bigbird ? number("sparse_random") : 0, number("sparse_seed")};
  const auto blocks = static_cast<double>(shape.blocks);
  const double entries = 2.0 * static_cast<double>(shape.window) + static_cast<double>(shape.random) + 1 +
                         2 * static_cast<double>(shape.globals);
  if (blocks * std::min(blocks, entries) > kMostEntries)
    return args.unsupported("sparsity would name more than 2^28 blocks; take larger ones");
  return shape;
}

Result<void> check_shape(const Arguments& args, AttentionAttrs& a) {
  const std::vector<std::uint64_t>& shape = args.in("block_rows").shape();
  const std::uint64_t blocks = list_rows(a) + 1;
  bool fits = !shape.empty() && shape.size() <= 3 && shape.back() == blocks;
  const std::uint64_t heads = shape.size() >= 2 ? shape[shape.size() - 2] : 1;
  const std::uint64_t batch = shape.size() == 3 ? shape[0] : 1;
  fits = fits && (heads == 1 || heads == a.heads) && (batch == 1 || batch == a.batch);
  if (!fits)
    return args.refuse("block_rows is " + shape_text(shape) + ", it must be (" + std::to_string(blocks) +
                       "), with " + std::to_string(a.heads) + " heads or 1 and " + std::to_string(a.batch) +
                       " sequences or 1 before it");
  a.lists_by_head = heads != 1;
  a.lists_by_batch = batch != 1;
  if (args.in("block_columns").rank() != 1)
    return args.refuse("block_columns is " + shape_text(args.in("block_columns").shape()) +
                       ", it must have 1 dimension");
  return {};
}

// Every list within the entries, and its entries ascending.
Result<void> check_lists(const Arguments& args, const AttentionAttrs& a,
                         const std::vector<std::uint32_t>& firsts,
                         const std::vector<std::uint32_t>& entries) {
  const std::uint64_t blocks = list_rows(a) + 1;
  for (std::size_t i = 0; i < firsts.size(); ++i) {
    if (i % blocks == blocks - 1) continue;
    if (firsts[i] > firsts[i + 1])
      return args.refuse("block_rows[" + std::to_string(i + 1) + "] is " + std::to_string(firsts[i + 1]) +
                         ", below the one before");
    for (std::size_t e = firsts[i] + std::size_t{1}; e < firsts[i + 1]; ++e)
      if (entries[e] <= entries[e - 1])
        return args.refuse("block_columns[" + std::to_string(e) + "] is " + std::to_string(entries[e]) +
                           ", it must be above the one before in its list");
  }
  return {};
}

}  // namespace

std::vector<std::uint32_t> sparse_lists(const SparseShape& shape) {
  std::vector<std::uint32_t> firsts{0}, entries;
  for (std::uint64_t row = 0; row < shape.blocks; ++row) {
    const std::vector<std::uint32_t> list = list_of(shape, row);
    entries.insert(entries.end(), list.begin(), list.end());
    firsts.push_back(static_cast<std::uint32_t>(entries.size()));
  }
  firsts.insert(firsts.end(), entries.begin(), entries.end());
  return firsts;
}

Result<void> set_lists(const Arguments& args, const AttentionSizes& s, AttentionAttrs& a) {
  const bool given = args.has("block_rows"), made = args.choice("sparsity") != "none";
  if (given != args.has("block_columns")) return args.refuse("block_rows and block_columns come together");
  if (given && made) return args.refuse("sparsity and block_rows are two ways to say one thing");
  for (const char* name : {"sparse_window", "sparse_global", "sparse_random", "sparse_seed"})
    if (!made && args.given(name)) return args.refuse(std::string(name) + " needs sparsity");
  if (!given && !made) {
    for (const char* name : {"q_block", "k_block"})
      if (args.given(name)) return args.refuse(std::string(name) + " needs block_rows or sparsity");
    return {};
  }
  if (s.no_keys) return args.refuse("block lists cannot be combined with a K that has no keys");
  if (a.ring) return args.refuse("block lists cannot be combined with ring");
  a.q_block = static_cast<std::uint32_t>(args.integer("q_block"));
  a.k_block = static_cast<std::uint32_t>(args.integer("k_block"));
  return given ? check_shape(args, a) : Result<void>();
}

Result<ValueId> add_lists(const Arguments& args, const AttentionAttrs& a, OpProgram& program) {
  if (a.q_block == 0) return kNoValue;
  if (args.choice("sparsity") != "none") {
    TSR_TRY(const SparseShape shape, sparse_shape(args, a));
    std::vector<std::uint32_t> words = sparse_lists(shape);
    const std::uint64_t count = words.size();
    return program.words("lists", {count}, std::move(words), {});
  }
  const std::uint64_t count = args.in("block_columns").elems, blocks = list_keys(a);
  TSR_TRY(std::vector<std::uint32_t> firsts,
          args.words("block_rows", count, "block_columns has " + std::to_string(count) + " entries"));
  TSR_TRY(const std::vector<std::uint32_t> entries,
          args.words("block_columns", blocks - 1, "there are " + std::to_string(blocks) + " blocks of keys"));
  if (args.known("block_rows") && args.known("block_columns"))
    TSR_CHECK(check_lists(args, a, firsts, entries));
  firsts.insert(firsts.end(), entries.begin(), entries.end());
  const std::uint64_t words = firsts.size();
  return program.words("lists", {words}, std::move(firsts), {"block_rows", "block_columns"});
}

}  // namespace tessera
