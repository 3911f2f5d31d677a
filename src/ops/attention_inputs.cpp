#include <algorithm>
#include <cmath>

#include "ops/attention_sizes.h"
#include "ops/block_lists.h"
#include "ops/relative_bias.h"

namespace tessera {
namespace {

using Shape = std::vector<std::uint64_t>;

struct Dims {
  std::uint64_t batch = 0, heads = 0, len = 0, dim = 0;
};

class SizeFinder {
 public:
  explicit SizeFinder(const Arguments& args) : args_(args) {}

  Result<AttentionSizes> run() {
    TSR_CHECK(layout());
    TSR_TRY(const Dims q, dims("Q", "q_num_heads"));
    TSR_TRY(const Dims k, dims("K", "kv_num_heads"));
    TSR_TRY(const Dims v, dims("V", "kv_num_heads"));
    for (const auto& [name, dims] : {std::pair("K", k), std::pair("V", v)})
      if (dims.heads == 0 || dims.batch == 0 || dims.dim == 0 || (dims.len == 0 && paged_))
        return args_.refuse(std::string(name) + " " + shape_text(args_.in(name).shape()) +
                            " has no elements");
    if (k.heads != v.heads) return args_.differ("K", k.heads, "V", v.heads, "heads");
    if (k.len != v.len) return args_.differ("K", k.len, "V", v.len, s_.block_size ? "keys a block" : "keys");
    if (k.batch != v.batch) return args_.differ("K", k.batch, "V", v.batch, paged_ ? "blocks" : "sequences");
    if (!paged_ && q.batch != k.batch) return args_.differ("Q", q.batch, "K", k.batch, "sequences");
    if (args_.has("score_matrix"))
      TSR_CHECK(expect_shape("score_matrix", {q.heads, k.dim, q.dim}));
    else if (q.dim != k.dim)
      return args_.differ("Q", q.dim, "K", k.dim, "elements a head");
    if (q.heads % k.heads != 0)
      return args_.refuse("Q has " + std::to_string(q.heads) + " heads, no multiple of K's " +
                          std::to_string(k.heads));
    for (const auto& [name, dim] : {std::pair("K", k.dim), std::pair("V", v.dim)})
      if (dim > kMaxHeadDim)
        return args_.unsupported(std::string(name) + " has heads of " + std::to_string(dim) +
                                 " elements, at most " + std::to_string(kMaxHeadDim) + " are taken");
    s_.batch = q.batch;
    s_.heads = q.heads;
    s_.q_len = q.len;
    s_.head_dim = k.dim;
    s_.q_dim = q.dim;
    s_.kv_heads = k.heads;
    s_.v_dim = v.dim;
    s_.new_keys = k.len;
    TSR_CHECK(keys(k));
    if (s_.kv_len == 0) TSR_CHECK(no_keys());
    return s_;
  }

 private:
  Result<void> layout() {
    const std::size_t rank = args_.in("Q").rank();
    for (const char* name : {"Q", "K", "V"})
      if (args_.in(name).rank() != rank || (rank != 3 && rank != 4))
        return args_.refuse(std::string(name) + " is " + shape_text(args_.in(name).shape()) + ", Q is " +
                            shape_text(args_.in("Q").shape()) +
                            ": all of Q, K, V must have 3 dimensions, or 4");
    paged_ = args_.has("block_table");
    s_.rank3 = rank == 3;
    s_.heads_first = rank == 4 && args_.choice("layout") == "heads_first";
    if (rank == 3 && args_.given("layout"))
      return args_.refuse("layout is of 4-D tensors, Q has 3 dimensions");
    if (!s_.heads_first && (paged_ || args_.given("position")))
      return args_.refuse((paged_ ? "block_table" : "position") +
                          std::string(" needs 4-D tensors of layout heads_first"));
    return {};
  }

  Result<Dims> dims(std::string_view name, std::string_view heads_name) const {
    const Shape& shape = args_.in(name).shape();
    const auto heads = static_cast<std::uint64_t>(args_.integer(heads_name));
    if (s_.rank3) {
      if (heads == 0)
        return args_.refuse(std::string(heads_name) + " is needed for a 3-D " + std::string(name));
      if (shape[2] % heads != 0)
        return args_.refuse(std::string(name) + " has rows of " + std::to_string(shape[2]) +
                            ", no multiple of " + std::string(heads_name) + " " + std::to_string(heads));
      return Dims{shape[0], heads, shape[1], shape[2] / heads};
    }
    const Dims d = s_.heads_first ? Dims{shape[0], shape[1], shape[2], shape[3]}
                                  : Dims{shape[0], shape[2], shape[1], shape[3]};
    if (heads != 0 && heads != d.heads)
      return args_.refuse(std::string(heads_name) + " is " + std::to_string(heads) + ", " +
                          std::string(name) + " has " + std::to_string(d.heads) + " heads");
    return d;
  }

  Result<void> expect_shape(std::string_view name, const Shape& shape) const {
    if (args_.in(name).shape() == shape) return {};
    return args_.refuse(std::string(name) + " is " + shape_text(args_.in(name).shape()) + ", it must be " +
                        shape_text(shape));
  }

  Result<void> no_keys() {
    for (const char* output : {"present_key", "present_value", "qk_matmul_output"})
      if (args_.wants(output) || (s_.appends && output[0] == 'p'))
        return args_.refuse(std::string(output) + " would have no elements: K has no keys");
    if (args_.given("position") || args_.has("documents"))
      return args_.refuse((args_.given("position") ? "position" : "documents") +
                          std::string(" cannot be combined with a K that has no keys"));
    s_.no_keys = true;
    s_.kv_len = s_.new_keys = 1;
    return {};
  }

  // kv_len, and which forms of keys go together.
  Result<void> keys(const Dims& k) {
    if (args_.has("past_key") != args_.has("past_value"))
      return args_.refuse("past_key and past_value come together");
    s_.appends = args_.has("past_key") || args_.wants("present_key") || args_.wants("present_value");
    const std::pair<const char*, bool> forms[] = {{"past_key or present_key", s_.appends},
                                                  {"block_table", paged_},
                                                  {"documents", args_.has("documents")},
                                                  {"position", args_.given("position")}};
    const std::pair<const char*, bool>* first = nullptr;
    for (const auto& form : forms) {
      if (!form.second) continue;
      if (first != nullptr)
        return args_.refuse(std::string(form.first) + " cannot be combined with " + first->first);
      first = &form;
    }
    if (args_.has("nonpad_kv_seqlen") && (s_.appends || args_.has("documents") || args_.given("position")))
      return args_.refuse(std::string("nonpad_kv_seqlen cannot be combined with ") + first->first);
    if (args_.has("documents") && s_.batch != 1)
      return args_.refuse("documents need a batch of 1, Q has " + std::to_string(s_.batch));
    s_.kv_len = s_.new_keys;
    if (args_.has("past_key")) {
      const OpInput& past = args_.in("past_key");
      if (past.rank() != 4)
        return args_.refuse("past_key is " + shape_text(past.shape()) + ", it must be 4-D");
      s_.past = past.shape()[2];
      TSR_CHECK(expect_shape("past_key", {s_.batch, s_.kv_heads, s_.past, s_.head_dim}));
      TSR_CHECK(expect_shape("past_value", {s_.batch, s_.kv_heads, s_.past, s_.v_dim}));
      s_.kv_len += s_.past;
    }
    if (paged_) {
      const OpInput& table = args_.in("block_table");
      if (table.rank() != 2 || table.shape()[0] != s_.batch)
        return args_.refuse("block_table is " + shape_text(table.shape()) + ", it must be (" +
                            std::to_string(s_.batch) + ", blocks)");
      s_.block_size = k.len;
      s_.blocks = k.batch;
      s_.kv_len = table.shape()[1] * s_.block_size;
    }
    if (s_.kv_len > 0xffffffffull) return args_.unsupported("K has 2^32 keys or more");
    return {};
  }

  const Arguments& args_;
  AttentionSizes s_;
  bool paged_ = false;
};

Result<void> set_causality(const Arguments& args, const AttentionSizes& s, AttentionAttrs& a) {
  const std::string causal = args.choice("causal");
  const auto side = [&](std::string_view name) {
    const std::int64_t keys = args.integer(name);
    return keys < 0 ? kNoWindow : static_cast<std::uint32_t>(keys);
  };
  a.window_left = side("window_left");
  a.window_right = side("window_right");
  if (args.integer("is_causal") == 0) {
    a.causal = causal == "none"       ? Causal::none
               : causal == "top_left" ? Causal::top_left
                                      : Causal::bottom_right;
    return {};
  }
  if (args.given("causal")) return args.refuse("is_causal=1 and causal are two ways to say one thing");
  const bool lengths = args.has("nonpad_kv_seqlen") || args.given("position");
  if (lengths || (s.past != 0 && s.new_keys == s.q_len)) {
    a.causal = Causal::bottom_right;
  } else if (s.past == 0) {
    a.causal = Causal::top_left;
  } else {
    // j <= i + past, where neither alignment has its centre.
    if (args.given("window_left") || args.given("window_right"))
      return args.refuse("is_causal with past_key and a window needs as many keys in K as rows in Q");
    a.window_right = static_cast<std::uint32_t>(s.past);
  }
  return {};
}

Result<void> set_prefix(const Arguments& args, AttentionAttrs& a) {
  const bool lengths = args.has("prefix_lengths");
  a.prefix_length = static_cast<std::uint32_t>(args.integer("prefix_length"));
  if (a.prefix_length == 0 && !lengths) return {};
  if (a.causal == Causal::none)
    return args.refuse((lengths ? "prefix_lengths" : "prefix_length") + std::string(" needs causal"));
  if (a.ring) return args.refuse("a prefix cannot be combined with ring");
  if (lengths && args.has("documents"))
    return args.refuse("prefix_lengths cannot be combined with documents");
  if (lengths && a.prefix_length != 0)
    return args.refuse("prefix_length and prefix_lengths are two ways to say one thing");
  return {};
}

// Top-k, and what an additive score needs.
Result<void> set_choice(const Arguments& args, AttentionAttrs& a) {
  a.top_k = static_cast<std::uint32_t>(args.integer("top_k"));
  if (a.top_k != 0 && a.ring) return args.refuse("top_k cannot be combined with ring");
  if (args.has("score_vector") != (a.score == AttentionScore::additive))
    return args.refuse("score=additive and score_vector come together");
  if (a.score != AttentionScore::additive) return {};
  const std::vector<std::uint64_t>& shape = args.in("score_vector").shape();
  if (shape != std::vector<std::uint64_t>{a.heads, a.head_dim})
    return args.refuse("score_vector is " + shape_text(shape) + ", it must be (" + std::to_string(a.heads) +
                       ", " + std::to_string(a.head_dim) + ")");
  return {};
}

Result<void> set_scores(const Arguments& args, AttentionAttrs& a) {
  static constexpr AttentionScores kModes[] = {AttentionScores::raw, AttentionScores::capped,
                                               AttentionScores::masked, AttentionScores::weights};
  const bool average = args.integer("average_heads") != 0;
  if (average && !args.wants("qk_matmul_output")) return args.refuse("average_heads is of qk_matmul_output");
  if (!args.wants("qk_matmul_output")) return {};
  a.scores = kModes[args.integer("qk_matmul_output_mode")];
  if (average && a.scores != AttentionScores::weights)
    return args.refuse("average_heads is of the weights, qk_matmul_output_mode=3");
  if (average) a.scores = AttentionScores::average;
  const auto range = [&](std::string_view first_name, std::string_view count_name, std::uint32_t all,
                         std::string_view what, std::uint32_t& first, std::uint32_t& count) -> Result<void> {
    first = static_cast<std::uint32_t>(args.integer(first_name));
    count = static_cast<std::uint32_t>(args.integer(count_name));
    if (first >= all || count > all - first)
      return args.refuse(std::string(first_name) + " " + std::to_string(first) + " and " +
                         std::string(count_name) + " " + std::to_string(count) + " leave the " +
                         std::to_string(all) + " " + std::string(what) + " of Q");
    if (count == 0) count = all - first;
    return {};
  };
  TSR_CHECK(range("score_head", "score_heads", a.heads, "heads", a.score_head, a.score_heads));
  return range("score_row", "score_rows", a.q_len, "rows", a.score_row, a.score_rows);
}

// Q8_0 is a cache's alone, which heads of rows are not.
Result<void> check_kv_type(const Arguments& args, const AttentionSizes& s) {
  if (args.choice("kv_type") != "Q8_0") return {};
  if (!s.appends && !s.heads_first)
    return args.refuse("kv_type Q8_0 needs 4-D tensors of layout heads_first, or present_key");
  for (const auto& [name, dim] : {std::pair("K", s.head_dim), std::pair("V", s.v_dim)})
    if (dim % 32 != 0)
      return args.refuse(std::string(name) + " has " + std::to_string(dim) +
                         " elements a head, kv_type Q8_0 takes multiples of 32");
  return {};
}

}  // namespace

namespace {

// Of q after the score_matrix, whose products have the layout of Q.
Strides projected_strides(const AttentionSizes& s) {
  if (s.heads_first) return {s.heads * s.q_len * s.head_dim, s.q_len * s.head_dim, s.head_dim, 1};
  return {s.q_len * s.heads * s.head_dim, s.head_dim, s.heads * s.head_dim, 1};
}

}  // namespace

Result<AttentionSizes> attention_sizes(const Arguments& args) { return SizeFinder(args).run(); }

Result<AttentionAttrs> attention_attrs(const Arguments& args, const AttentionSizes& s) {
  const auto u32 = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  AttentionAttrs a;
  a.batch = u32(s.batch);
  a.q_len = u32(s.q_len);
  a.kv_len = u32(s.kv_len);
  a.heads = u32(s.heads);
  a.kv_heads = u32(s.kv_heads);
  a.head_dim = u32(s.head_dim);
  a.v_dim = u32(s.v_dim);
  a.score = args.choice("score") == "cosine"     ? AttentionScore::cosine
            : args.choice("score") == "additive" ? AttentionScore::additive
                                                 : AttentionScore::dot;
  const double scale = a.score == AttentionScore::dot ? 1 / std::sqrt(static_cast<double>(s.head_dim)) : 1;
  a.scale = static_cast<float>(args.given("scale") ? args.number("scale") : scale);
  a.softcap = static_cast<float>(args.number("softcap"));
  a.precision = args.choice("precision") == "mixed" ? Precision::mixed : Precision::f32;
  a.heads_first = s.heads_first;
  if (args.has("score_matrix")) a.q_strides = projected_strides(s);
  a.block_size = u32(s.block_size);
  a.cache = !s.no_keys &&
            (s.appends || s.block_size != 0 || args.given("position") || args.choice("kv_type") == "Q8_0");
  TSR_CHECK(check_kv_type(args, s));
  a.ring = args.integer("ring") != 0;
  const std::int64_t type = args.integer("softmax_precision");
  if (type != 1 && type != 10 && type != 16)
    return args.refuse("softmax_precision is " + std::to_string(type) +
                       ", it must be 1, 10 or 16 (F32 is used)");
  TSR_CHECK(set_causality(args, s, a));
  TSR_CHECK(set_scores(args, a));
  TSR_CHECK(set_lists(args, s, a));
  TSR_CHECK(set_prefix(args, a));
  TSR_CHECK(set_choice(args, a));
  TSR_CHECK(set_relative(args, a));
  if (a.ring && !args.given("position")) return args.refuse("ring needs position");
  if (a.ring &&
      (a.causal == Causal::none || a.window_left == kNoWindow || a.window_left + s.q_len > s.kv_len))
    return args.refuse("ring needs a causal alignment and a window_left of at most K's " +
                       std::to_string(s.kv_len) + " keys less Q's " + std::to_string(s.q_len) + " rows");
  if (args.given("position") && !a.ring &&
      static_cast<std::uint64_t>(args.integer("position")) + s.q_len > s.kv_len)
    return args.refuse("position " + std::to_string(args.integer("position")) + " and Q's " +
                       std::to_string(s.q_len) + " rows leave the " + std::to_string(s.kv_len) +
                       " keys of K");
  return a;
}

}  // namespace tessera
