#include <cmath>

#include "graph/check.h"

namespace tessera {
namespace {

class AttentionChecker : OpCheck {
 public:
  AttentionChecker(const Program& program, const Graph& graph, const Op& op)
      : OpCheck(program, graph, op), a_(op.attrs.attention) {
    resolve_strides(a_);
  }

  std::string run() {
    sizes();
    if (error_.empty()) numbers();
    if (error_.empty()) rows();
    if (error_.empty()) keys();
    if (error_.empty()) lists();
    if (error_.empty()) forms();
    if (error_.empty()) outputs();
    return error_;
  }

 private:
  ValueId id_of(AttentionIn which) const { return op_.in[static_cast<std::size_t>(which)]; }
  bool has(AttentionIn which) const { return id_of(which) != kNoValue; }
  const Value& in(AttentionIn which) const { return value(id_of(which)); }

  void sizes() {
    if (a_.batch == 0) reject("batch is 0");
    if (a_.q_len == 0) reject("q_len is 0");
    if (a_.kv_len == 0) reject("kv_len is 0");
    if (a_.heads == 0) reject("heads is 0");
    if (a_.kv_heads == 0) reject("kv_heads is 0");
    if (a_.head_dim == 0) reject("head_dim is 0");
    if (a_.v_dim == 0) reject("v_dim is 0");
    if (a_.head_dim > kMaxHeadDim || a_.v_dim > kMaxHeadDim)
      reject("head_dim or v_dim is above " + std::to_string(kMaxHeadDim));
    if (error_.empty() && a_.heads % a_.kv_heads != 0) reject("heads is no multiple of kv_heads");
  }

  void numbers() {
    if (!std::isfinite(a_.scale)) reject("scale is not finite");
    if (!std::isfinite(a_.softcap) || a_.softcap < 0) reject("softcap is negative or not finite");
  }

  // Of `heads` heads of `len` rows; with explicit strides any shape that holds them.
  void expect_layout(ValueId id, bool given, const Strides& strides, std::uint64_t heads, std::uint64_t len,
                     std::uint64_t dim) {
    const Value& v = value(id);
    if (given) {
      // One batch, head, row or element more or less never overflows: the counts are 32-bit, checked one by
      // one.
      std::uint64_t last = 0;
      const std::uint64_t counts[] = {a_.batch, heads, len, dim};
      for (std::size_t i = 0; i < 4; ++i) {
        if (counts[i] == 1) continue;  // its stride may be anything
        if (strides[i] > v.elems()) return reject("a stride of value " + v.name + " is past its end");
        last += strides[i] * (counts[i] - 1);
        if (last >= v.elems()) return reject("the strides of value " + v.name + " reach past its end");
      }
      return;
    }
    expect(id, a_.heads_first ? Shape{a_.batch, heads, len, dim} : Shape{a_.batch * len, heads * dim},
           v.dtype);
  }

  void expect_real(const Value& v) {
    if (v.dtype != DType::f32 && v.dtype != DType::f16 && v.dtype != DType::bf16)
      reject("value " + v.name + " is " + std::string(info(v.dtype).name) + ", expected F32, F16 or BF16");
    if (v.storage == Storage::weight) reject("value " + v.name + " must not be a weight");
  }

  void rows() {
    const Value &q = in(AttentionIn::q), &y = value(op_.out[0]);
    expect_real(q);
    expect_real(y);
    expect_layout(op_.in[0], op_.attrs.attention.q_strides != Strides{}, a_.q_strides, a_.heads, a_.q_len,
                  a_.head_dim);
    expect_layout(op_.out[0], op_.attrs.attention.y_strides != Strides{}, a_.y_strides, a_.heads, a_.q_len,
                  a_.v_dim);
    same_rows(op_.in[0], op_.out[0]);
    if (q.dynamic_rows && (!has(AttentionIn::state) || a_.batch != 1 || a_.q_len != graph_.max_rows))
      reject("dynamic rows need a state, one sequence, and q_len rows of the graph");
    if (has(AttentionIn::state)) expect_state(id_of(AttentionIn::state));
  }

  void keys() {
    expect_keys(AttentionIn::k, op_.attrs.attention.k_strides != Strides{}, a_.k_strides, a_.head_dim);
    expect_keys(AttentionIn::v, op_.attrs.attention.v_strides != Strides{}, a_.v_strides, a_.v_dim);
    if (in(AttentionIn::k).dtype != in(AttentionIn::v).dtype)
      reject("value " + in(AttentionIn::v).name + " is " + std::string(info(in(AttentionIn::v).dtype).name) +
             ", expected " + std::string(info(in(AttentionIn::k).dtype).name) + " as k");
  }

  void expect_keys(AttentionIn which, bool given, const Strides& strides, std::uint32_t dim) {
    const Value& v = in(which);
    if (!a_.cache) {
      expect_real(v);
      if (a_.block_size != 0 || a_.ring) reject("only a cache is paged or a ring");
      expect_layout(id_of(which), given, strides, a_.kv_heads, a_.kv_len, dim);
      return;
    }
    if (v.dtype != DType::q8_0) expect_real(v);
    if (v.storage != Storage::cache) return reject("value " + v.name + " must be a cache");
    if (given) return reject("a cache has no strides of its own");
    Shape shape{a_.batch, a_.kv_heads, a_.kv_len, dim};
    if (a_.block_size != 0) {
      shape[0] = v.shape.size() == 4 ? v.shape[0] : 0;  // any number of blocks
      shape[2] = a_.block_size;
      if (a_.kv_len % a_.block_size != 0) reject("kv_len is no multiple of block_size");
    } else if (a_.batch == 1 && v.shape.size() == 3) {
      shape.erase(shape.begin());
    }
    expect(id_of(which), shape, v.dtype);
  }

  void expect_list(AttentionIn which, const Shape& shape, DType type) {
    if (has(which)) expect(id_of(which), shape, type);
  }

  void expect_broadcast(AttentionIn which, bool boolean) {
    if (!has(which)) return;
    const Value& v = in(which);
    if (!boolean || v.dtype != DType::u8) expect_real(v);
    const Shape whole{a_.batch, a_.heads, a_.q_len, a_.kv_len};
    bool fits = v.shape.size() == 4;
    for (std::size_t i = 0; fits && i < 4; ++i) fits = v.shape[i] == 1 || v.shape[i] == whole[i];
    if (!fits)
      reject("value " + v.name + " " + print_shape(v) + " does not broadcast to " + print_shape(whole));
  }

  void lists() {
    expect_broadcast(AttentionIn::mask, true);
    expect_broadcast(AttentionIn::bias, false);
    expect_list(AttentionIn::slopes, {a_.heads}, DType::f32);
    expect_list(AttentionIn::sinks, {a_.heads}, DType::f32);
    expect_list(AttentionIn::lengths, {a_.batch}, DType::u32);
    if (has(AttentionIn::table) != (a_.block_size != 0)) reject("a block table and block_size come together");
    if (a_.block_size != 0)
      expect_list(AttentionIn::table, {a_.batch, a_.kv_len / a_.block_size}, DType::u32);
    block_lists();
    prefixes_and_relative();
    for (std::size_t i = static_cast<std::size_t>(AttentionIn::count); i < op_.in.size(); ++i)
      if (const Value& v = value(op_.in[i]);
          (v.dtype != DType::f32 && v.dtype != DType::u32) || v.storage == Storage::weight)
        reject("value " + v.name + " of a user's functions must be F32 or U32, and no weight");
    if (!has(AttentionIn::documents)) return;
    const Value& v = in(AttentionIn::documents);
    if (v.dtype != DType::u32 || v.shape.size() != 2 || v.shape[0] != 2 || v.shape[1] < 2)
      reject("value " + v.name + " must be U32 (2, documents + 1)");
  }

  void prefixes_and_relative() {
    expect_list(AttentionIn::prefixes, {a_.batch}, DType::u32);
    const bool prefix = a_.prefix_length != 0 || has(AttentionIn::prefixes);
    if (prefix && (a_.causal == Causal::none || a_.ring)) reject("a prefix needs causality, and no ring");
    if (has(AttentionIn::prefixes) && (a_.prefix_length != 0 || has(AttentionIn::documents)))
      reject("prefixes of sequences exclude prefix_length and documents");
    if (a_.ring && a_.top_k != 0) reject("a ring takes no top_k");
    if (has(AttentionIn::vector) != (a_.score == AttentionScore::additive))
      return reject("additive scores and their vector come together");
    expect_list(AttentionIn::vector, {a_.heads, a_.head_dim}, DType::f32);
    if (has(AttentionIn::relative) != (a_.relative != RelativeBias::none))
      return reject("a relative bias and its kind come together");
    if (!has(AttentionIn::relative)) return;
    if (has(AttentionIn::slopes)) reject("slopes and a relative bias exclude each other");
    if (a_.relative == RelativeBias::window &&
        (a_.relative_size == 0 || a_.q_len % a_.relative_size != 0 || a_.q_len != a_.kv_len))
      return reject("the window of a relative bias has not q_len = kv_len places");
    expect(id_of(AttentionIn::relative), {relative_entries(a_), a_.heads}, DType::f32);
  }

  void block_lists() {
    const bool there = has(AttentionIn::lists);
    if (there != (a_.q_block != 0) || there != (a_.k_block != 0))
      return reject("block lists and the sizes of their blocks come together");
    if (!there) return;
    if (a_.ring) reject("a ring takes no block lists");
    const Value& v = in(AttentionIn::lists);
    if (v.dtype != DType::u32 || v.shape.size() != 1 || v.elems() < list_firsts(a_))
      reject("value " + v.name + " must be U32 of at least " + std::to_string(list_firsts(a_)) + " words");
  }

  void forms() {
    if (has(AttentionIn::documents) &&
        (a_.batch != 1 || has(AttentionIn::state) || has(AttentionIn::lengths) || a_.block_size != 0))
      reject("documents need one sequence, and no state, lengths or block table");
    if (has(AttentionIn::lengths) && has(AttentionIn::state))
      reject("lengths and a state exclude each other");
    if (!a_.ring) return;
    if (!has(AttentionIn::state) || a_.causal != Causal::bottom_right || a_.block_size != 0 ||
        has(AttentionIn::mask) || has(AttentionIn::bias) || op_.out[2] != kNoValue)
      reject("a ring needs a state and causal=bottom_right, and takes no block table, mask, bias or scores");
    if (std::uint64_t{a_.window_left} + a_.q_len > a_.kv_len)
      reject("a ring of " + std::to_string(a_.kv_len) + " keys is too small for its window and rows");
  }

  void outputs() {
    const auto expect_out = [&](std::size_t i, const Shape& shape) {
      if (op_.out[i] != kNoValue) expect(op_.out[i], shape);
    };
    expect_out(1, {a_.batch, a_.heads, a_.q_len});
    if ((op_.out[2] != kNoValue) != (a_.scores != AttentionScores::none))
      return reject("an output of scores and their kind come together");
    if (a_.score_head >= a_.heads || a_.score_heads > a_.heads - a_.score_head || a_.score_row >= a_.q_len ||
        a_.score_rows > a_.q_len - a_.score_row)
      return reject("the heads or rows of the scores are out of range");
    expect_out(
        2, {a_.batch, score_slots(a_), a_.score_rows ? a_.score_rows : a_.q_len - a_.score_row, a_.kv_len});
  }

  AttentionAttrs a_;
};

}  // namespace

std::string check_attention(const Program& program, const Graph& graph, const Op& op) {
  return AttentionChecker(program, graph, op).run();
}

}  // namespace tessera
