#include <algorithm>
#include <limits>

#include "base/cache_row.h"
#include "ops/attention_sizes.h"
#include "ops/block_lists.h"
#include "ops/builders.h"
#include "ops/op_program.h"
#include "ops/relative_bias.h"

namespace tessera {
namespace {

using Shape = std::vector<std::uint64_t>;

std::size_t at(AttentionIn which) { return static_cast<std::size_t>(which); }

class AttentionBuilder {
 public:
  AttentionBuilder(const Arguments& args, const AttentionSizes& sizes, const AttentionAttrs& attrs)
      : args_(args), s_(sizes), a_(attrs), p_(args, "attention"), in_(at(AttentionIn::count), kNoValue) {}

  Result<BuiltOp> run() {
    in_[at(AttentionIn::q)] =
        args_.has("score_matrix")
            ? projected_q()
            : p_.given("Q", args_.in("Q").real(), rows_shape(s_.heads, s_.q_len, s_.head_dim));
    if (s_.appends)
      append_keys();
    else
      given_keys();
    if (args_.given("position")) in_[at(AttentionIn::state)] = p_.state();
    TSR_CHECK(mask());
    TSR_CHECK(bias());
    for (const auto& [name, which] :
         {std::pair("alibi_slopes", AttentionIn::slopes), std::pair("sinks", AttentionIn::sinks)})
      TSR_CHECK(vector_of_heads(name, which));
    TSR_TRY(const std::vector<std::uint32_t> lengths, lengths_of());
    TSR_CHECK(documents());
    TSR_CHECK(block_table(lengths));
    TSR_TRY(in_[at(AttentionIn::lists)], add_lists(args_, a_, p_));
    TSR_CHECK(prefixes());
    if (args_.has("score_vector"))
      in_[at(AttentionIn::vector)] = p_.given("score_vector", DType::f32, {s_.heads, s_.head_dim});
    in_[at(AttentionIn::relative)] = add_relative(args_, a_, p_);
    TSR_CHECK(user_functions());
    outputs();
    const std::uint64_t rows = s_.appends && s_.new_keys != 0 ? s_.new_keys : s_.q_len;
    const std::uint64_t position =
        args_.given("position") ? static_cast<std::uint64_t>(args_.integer("position")) : s_.past;
    return p_.finish(
        {.position = static_cast<std::uint32_t>(position), .rows = static_cast<std::uint32_t>(rows)}, rows);
  }

 private:
  Shape rows_shape(std::uint64_t heads, std::uint64_t len, std::uint64_t dim) const {
    if (s_.heads_first) return {s_.batch, heads, len, dim};
    return {s_.batch * len, heads * dim};
  }

  // The product of each head's rows with its matrix. Heads first there is a matrix for each sequence and
  // head, and sequences repeat those of the heads.
  ValueId projected_q() {
    const std::uint64_t repeats = s_.heads_first ? s_.batch : 1, matrices = s_.heads * repeats;
    const std::uint64_t rows = s_.q_len * (s_.heads_first ? 1 : s_.batch);
    const auto shape = [&](std::uint64_t dim) -> Shape {
      if (matrices == 1) return {rows, dim};
      return s_.heads_first ? Shape{matrices, rows, dim} : Shape{rows, matrices, dim};
    };
    const DType type = args_.in("score_matrix").real();
    Shape w_shape{s_.head_dim, s_.q_dim};
    if (matrices != 1) w_shape.insert(w_shape.begin(), matrices);
    std::vector<std::byte> repeated;
    const std::span<const std::byte> data = args_.in("score_matrix").tensor->data;
    for (std::uint64_t i = 0; i < repeats && repeats != 1; ++i)
      repeated.insert(repeated.end(), data.begin(), data.end());
    const ValueId x = p_.given("Q", DType::f32, shape(s_.q_dim));
    const ValueId w = repeats == 1 ? p_.weight("score_matrix", type, w_shape, data)
                                   : p_.weight("score_matrix", type, w_shape, {}, std::move(repeated));
    const ValueId y = p_.add("projected", Storage::activation, DType::f32, shape(s_.head_dim));
    OpAttrs attrs;
    attrs.rows_first = !s_.heads_first && matrices != 1;
    attrs.precision = a_.precision;
    p_.op(OpKind::matmul, attrs, {x, w, kNoValue, kNoValue, kNoValue, kNoValue, kNoValue}, {y});
    return y;
  }

  // The one type of both keys and values on the device.
  DType kv_type() const {
    if (const std::string type = args_.choice("kv_type"); type != "stored" && !s_.no_keys)
      return *parse_dtype(type);
    const DType k = args_.in("K").real();
    if (s_.no_keys) return DType::f32;
    for (const char* name : {"V", "past_key", "past_value"})
      if (args_.has(name) && args_.in(name).real() != k) return DType::f32;
    return k;
  }

  void given_keys() {
    for (const auto& [name, which, dim] :
         {std::tuple("K", AttentionIn::k, s_.head_dim), std::tuple("V", AttentionIn::v, s_.v_dim)}) {
      const Shape shape = rows_shape(s_.kv_heads, s_.new_keys, dim);
      if (s_.no_keys)
        in_[at(which)] =
            p_.given_bytes(name, DType::f32, shape, std::vector<std::byte>(*product(shape) * 4), {});
      else if (a_.cache)
        in_[at(which)] = p_.cache(name, kv_type(), args_.in(name).shape());
      else
        in_[at(which)] = p_.given(name, kv_type(), shape);
    }
  }

  // The past goes into the cache as it is, K and V are appended by the device.
  void append_keys() {
    for (const auto& [name, past, present, which, dim] :
         {std::tuple("K", "past_key", "present_key", AttentionIn::k, s_.head_dim),
          std::tuple("V", "past_value", "present_value", AttentionIn::v, s_.v_dim)}) {
      const ValueId cache =
          p_.add(present, Storage::cache, kv_type(), {s_.batch, s_.kv_heads, s_.kv_len, dim});
      if (s_.past != 0) p_.content(cache, {past});
      if (s_.past != 0 && args_.known(past)) write_past(past, cache, dim);
      in_[at(which)] = cache;
      if (s_.new_keys == 0) continue;
      const ValueId x = p_.given(name, DType::f32, rows_shape(s_.kv_heads, s_.new_keys, dim));
      OpAttrs attrs;
      attrs.kv_heads = static_cast<std::uint32_t>(s_.kv_heads);
      attrs.head_dim = static_cast<std::uint32_t>(dim);
      attrs.attention.batch = static_cast<std::uint32_t>(s_.batch);
      attrs.attention.q_len = static_cast<std::uint32_t>(s_.new_keys);
      attrs.attention.heads_first = s_.heads_first;
      p_.op(OpKind::kv_append, attrs, {x, p_.state(), cache, kNoValue}, {cache});
    }
  }

  void write_past(const char* name, ValueId cache, std::uint64_t dim) {
    const std::vector<std::byte> all = encode_cache(kv_type(), dim, p_.floats(name));
    const std::uint64_t row = cache_row_bytes(kv_type(), dim);
    for (std::uint64_t head = 0; head < s_.batch * s_.kv_heads; ++head) {
      const auto* from = all.data() + head * s_.past * row;
      p_.write(cache, head * s_.kv_len * row, {from, from + s_.past * row});
    }
  }

  // The shape with leading ones, or why it does not broadcast.
  Result<Shape> broadcast(const char* name, bool may_be_short) const {
    const OpInput& input = args_.in(name);
    const Shape whole{s_.batch, s_.heads, s_.q_len, s_.kv_len};
    Shape shape(4, 1);
    bool fits = input.rank() <= 4;
    if (fits) std::ranges::copy(input.shape(), shape.end() - static_cast<std::ptrdiff_t>(input.rank()));
    for (std::size_t i = 0; fits && i < 4; ++i) {
      const bool is_short = may_be_short && i == 3 && shape[3] < whole[3];
      fits = shape[i] == 1 || shape[i] == whole[i] || is_short;
    }
    if (fits) return shape;
    return args_.refuse(std::string(name) + " " + shape_text(input.shape()) + " does not broadcast to " +
                        shape_text(whole) + ", (batch, q_heads, q_len, kv_len)");
  }

  Result<void> mask() {
    if (!args_.has("attn_mask")) return {};
    const OpInput& mask = args_.in("attn_mask");
    TSR_TRY(Shape shape, broadcast("attn_mask", true));
    const bool boolean = mask.type() == "BOOL" || mask.type() == "U8";
    const DType type = boolean ? DType::u8 : mask.real();
    ValueId& value = in_[at(AttentionIn::mask)];
    const std::uint64_t columns = shape[3];
    if (columns == s_.kv_len || mask.rank() == 0) {
      value = p_.given("attn_mask", type, shape);
      return {};
    }
    // The missing columns are masked.
    std::vector<std::byte> bytes;
    if (args_.known("attn_mask")) {
      const std::uint64_t element = info(type).block_bytes;
      const float masked = -std::numeric_limits<float>::infinity();
      const std::vector<std::byte> fill =
          boolean ? std::vector<std::byte>(1, std::byte{0}) : encode(type, {&masked, 1});
      const std::uint64_t rows = mask.elems / columns;
      for (std::uint64_t r = 0; r < rows; ++r) {
        const auto row = mask.tensor->data.subspan(r * columns * element, columns * element);
        bytes.insert(bytes.end(), row.begin(), row.end());
        for (std::uint64_t c = columns; c < s_.kv_len; ++c)
          bytes.insert(bytes.end(), fill.begin(), fill.end());
      }
    }
    shape[3] = s_.kv_len;
    value = p_.given_bytes("attn_mask", type, shape, std::move(bytes), {"attn_mask"});
    return {};
  }

  Result<void> bias() {
    if (!args_.has("bias")) return {};
    TSR_TRY(const Shape shape, broadcast("bias", false));
    in_[at(AttentionIn::bias)] = p_.given("bias", args_.in("bias").real(), shape);
    return {};
  }

  Result<void> vector_of_heads(const char* name, AttentionIn which) {
    const OpInput* input = args_.find(name);
    if (input == nullptr) return {};
    if (input->rank() != 1 || input->elems != s_.heads)
      return args_.refuse(std::string(name) + " is " + shape_text(input->shape()) + ", Q has " +
                          std::to_string(s_.heads) + " heads");
    in_[at(which)] = p_.given(name, DType::f32, {s_.heads});
    return {};
  }

  Result<std::vector<std::uint32_t>> lengths_of() {
    if (!args_.has("nonpad_kv_seqlen")) {
      if (s_.no_keys)
        in_[at(AttentionIn::lengths)] =
            p_.words("nonpad_kv_seqlen", {s_.batch}, std::vector<std::uint32_t>(s_.batch), {});
      return std::vector<std::uint32_t>{};
    }
    const std::uint64_t keys = s_.no_keys ? 0 : s_.kv_len;
    const OpInput& input = args_.in("nonpad_kv_seqlen");
    if (input.rank() != 1 || input.elems != s_.batch)
      return args_.refuse("nonpad_kv_seqlen is " + shape_text(input.shape()) + ", Q has " +
                          std::to_string(s_.batch) + " sequences");
    TSR_TRY(std::vector<std::uint32_t> lengths,
            args_.words("nonpad_kv_seqlen", keys, "there are " + std::to_string(keys) + " keys"));
    in_[at(AttentionIn::lengths)] = p_.words("nonpad_kv_seqlen", {s_.batch}, lengths, {"nonpad_kv_seqlen"});
    return lengths;
  }

  Result<void> prefixes() {
    const OpInput* input = args_.find("prefix_lengths");
    if (input == nullptr) return {};
    if (input->rank() != 1 || input->elems != s_.batch)
      return args_.refuse("prefix_lengths is " + shape_text(input->shape()) + ", Q has " +
                          std::to_string(s_.batch) + " sequences");
    TSR_TRY(std::vector<std::uint32_t> words,
            args_.words("prefix_lengths", 0xffffffff, "it must be 0 to 4294967295"));
    in_[at(AttentionIn::prefixes)] =
        p_.words("prefix_lengths", {s_.batch}, std::move(words), {"prefix_lengths"});
    return {};
  }

  Result<void> documents() {
    const OpInput* input = args_.find("documents");
    if (input == nullptr) return {};
    const bool both = input->rank() == 2;
    if (input->shape().empty() || input->rank() > 2 || (both && input->shape()[0] != 2) ||
        input->shape().back() < 2)
      return args_.refuse("documents is " + shape_text(input->shape()) +
                          ", it must be (documents+1) or (2, documents+1)");
    if (!both && s_.q_len != s_.kv_len)
      return args_.refuse("documents of one row need as many keys as rows; Q has " +
                          std::to_string(s_.q_len) + " rows, K " + std::to_string(s_.kv_len));
    TSR_TRY(std::vector<std::uint32_t> words,
            args_.words("documents", std::max(s_.q_len, s_.kv_len), "which is past the end"));
    const std::uint64_t n = input->shape().back();
    if (!both && args_.known("documents")) {
      words.resize(2 * n);
      std::copy_n(words.begin(), n, words.begin() + static_cast<std::ptrdiff_t>(n));
    }
    for (std::uint64_t side = 0; side < 2 && args_.known("documents"); ++side) {
      const auto first = words.begin() + static_cast<std::ptrdiff_t>(side * n);
      const std::uint64_t len = side == 0 ? s_.q_len : s_.kv_len;
      if (first[0] != 0 || first[static_cast<std::ptrdiff_t>(n - 1)] != len ||
          !std::is_sorted(first, first + static_cast<std::ptrdiff_t>(n)))
        return args_.refuse(std::string("documents must rise from 0 to the ") + std::to_string(len) +
                            (side == 0 ? " rows of Q" : " keys of K"));
    }
    in_[at(AttentionIn::documents)] = p_.words("documents", {2, n}, std::move(words), {"documents"});
    return {};
  }

  // Entries that no key needs may be anything, but are kept where they can: a host may change the lengths.
  Result<void> block_table(const std::vector<std::uint32_t>& lengths) {
    const OpInput* input = args_.find("block_table");
    if (input == nullptr) return {};
    // Which entries must be right depends on the lengths.
    OpProgram::Inputs sources{"block_table"};
    if (args_.has("nonpad_kv_seqlen")) sources.emplace_back("nonpad_kv_seqlen");
    const bool known = std::ranges::all_of(sources, [&](const auto& name) { return args_.known(name); });
    const std::uint64_t columns = input->shape()[1];
    for (std::uint64_t i = 0; i < input->elems && known; ++i) {
      const std::uint64_t keys = lengths.empty() ? s_.kv_len : lengths[i / columns];
      if (i % columns * s_.block_size >= keys) continue;
      const std::int64_t block = args_.word(*input, i);
      if (block < 0 || static_cast<std::uint64_t>(block) >= s_.blocks)
        return args_.refuse("block_table[" + std::to_string(i / columns) + ", " +
                            std::to_string(i % columns) + "] is " + std::to_string(block) + ", K has " +
                            std::to_string(s_.blocks) + " blocks");
    }
    in_[at(AttentionIn::table)] =
        p_.words("block_table", input->shape(), blocks_of(args_, s_.blocks), std::move(sources));
    return {};
  }

  // The functions' buffers come after all other inputs.
  Result<void> user_functions() {
    constexpr std::string_view kPrefix = "user.";
    const std::vector<std::string> inputs = args_.inputs_of(kPrefix);
    if (args_.user() == nullptr) {
      if (inputs.empty()) return {};
      return args_.refuse(inputs[0] + " is read by score_glsl and mask_glsl alone");
    }
    if (args_.user()->modules == nullptr)
      return args_.unsupported("score_glsl and mask_glsl need a context with compile_glsl");
    auto user = std::make_shared<UserFunctions>(*args_.user());
    for (const std::string& input : inputs) {
      const std::string_view type = args_.in(input).type();
      user->buffers.push_back({input.substr(kPrefix.size()), type == "F32"   ? UserBuffer::Type::f32
                                                             : type == "U32" ? UserBuffer::Type::u32
                                                                             : UserBuffer::Type::i32});
      const Shape& shape = args_.in(input).shape();
      in_.push_back(
          p_.given(input, type == "F32" ? DType::f32 : DType::u32, shape.empty() ? Shape{1} : shape));
    }
    a_.user = std::move(user);
    return {};
  }

  void outputs() {
    const ValueId y =
        p_.add("Y", Storage::output, args_.in("Q").real(), rows_shape(s_.heads, s_.q_len, s_.v_dim));
    ValueId lse = kNoValue, scores = kNoValue;
    const Shape lse_shape{s_.batch, s_.heads, s_.q_len};
    const Shape score_shape{s_.batch, score_slots(a_), a_.score_rows, s_.kv_len};
    if (args_.wants("lse")) lse = p_.add("lse", Storage::output, DType::f32, lse_shape);
    if (args_.wants("qk_matmul_output"))
      scores = p_.add("qk_matmul_output", Storage::output, DType::f32, score_shape);
    OpAttrs attrs;
    attrs.attention = a_;
    p_.op(OpKind::attention, attrs, in_, {y, lse, scores});

    const std::string_view type = args_.in("Q").type();
    Shape y_shape = args_.in("Q").shape();
    y_shape.back() = s_.rank3 ? s_.heads * s_.v_dim : s_.v_dim;
    p_.output("Y", type, std::move(y_shape), y);
    const bool past = args_.has("past_key");
    if (past || args_.wants("present_key"))
      p_.output("present_key", args_.in("K").type(), {s_.batch, s_.kv_heads, s_.kv_len, s_.head_dim},
                in_[at(AttentionIn::k)]);
    if (past || args_.wants("present_value"))
      p_.output("present_value", args_.in("V").type(), {s_.batch, s_.kv_heads, s_.kv_len, s_.v_dim},
                in_[at(AttentionIn::v)]);
    if (scores != kNoValue) p_.output("qk_matmul_output", type, score_shape, scores);
    if (lse != kNoValue) p_.output("lse", "F32", lse_shape, lse);
  }

  const Arguments& args_;
  AttentionSizes s_;
  AttentionAttrs a_;
  OpProgram p_;
  std::vector<ValueId> in_;
};

}  // namespace

Result<BuiltOp> build_attention(const Arguments& args) {
  TSR_TRY(const AttentionSizes sizes, attention_sizes(args));
  TSR_TRY(const AttentionAttrs attrs, attention_attrs(args, sizes));
  return AttentionBuilder(args, sizes, attrs).run();
}

}  // namespace tessera
