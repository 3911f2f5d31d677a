#include <array>

#include "graph/kv_cache.h"
#include "interface/attention_params.h"
#include "schedule/lower_op.h"

namespace tessera {
namespace {

// What goes by heads: rope, caches and attention.
class HeadsLowering : OpLowering {
 public:
  explicit HeadsLowering(const OpLowering& op) : OpLowering(op) {}

  Result<void> run() {
    switch (op_.kind) {
      case OpKind::rope:
        emit(RopeCall{rope_shape()}, {{op_.in[0]}, {op_.in[1]}, {op_.in[2]}, {op_.out[0]}});
        break;
      case OpKind::kv_append:
        emit(KvAppendCall{append_shape(op_.in[2], op_.in[3])},
             {{op_.in[0]}, {op_.in[1]}, {op_.in[2]}, {op_.in[3]}});
        break;
      case OpKind::rope_append:
        emit(rope_append_shape(),
             {{op_.in[0]}, {op_.in[1]}, {op_.in[2]}, {op_.out[0]}, {op_.in[3]}, {op_.in[4]}, {op_.in[5]}});
        break;
      case OpKind::qkv_append: return lower_qkv_append();
      default: lower_attention(); break;
    }
    return {};
  }

 private:
  Result<void> lower_qkv_append() {
    const ValueId x = op_.in[0], w = op_.in[1], bias = op_.in[2], norm = op_.in[3];
    TSR_TRY(const std::uint64_t window, window_rows(w, 4));
    QkvShape shape;
    shape.append = append_shape(op_.in[6], op_.in[8]);
    shape.append.v_dim = dim(op_.in[7]);
    shape.append.table_rows = u32(value(op_.in[4]).shape[0]);
    const std::uint64_t n = value(w).shape[0];
    for (std::uint64_t first = 0; first < n; first += window) {
      const std::uint64_t count = std::min(window, n - first);
      shape.product = {.rows = rows(x),
                       .n = u32(count),
                       .k = dim(w),
                       .first = u32(first),
                       .dynamic_rows = value(op_.out[0]).dynamic_rows,
                       .type = value(w).dtype,
                       .bias = bias != kNoValue,
                       .x_type = value(x).dtype,
                       .norm = norm != kNoValue,
                       .eps = op_.attrs.eps};
      emit(shape, {{x},
                   {w, first, count},
                   {},
                   {bias},
                   {},
                   {op_.out[0]},
                   state(),
                   {},
                   {norm},
                   {op_.in[4]},
                   {op_.in[6]},
                   {op_.in[7]},
                   {op_.in[8]}});
    }
    return {};
  }

  // What rope and the appends share.
  RopeAppendShape rows_shape() const {
    const SequenceRows sequences = sequence_rows(program_, op_);
    RopeAppendShape shape;
    shape.batch = u32(sequences.batch);
    shape.rows = u32(sequences.rows);
    shape.heads = op_.attrs.heads;
    shape.kv_heads = op_.attrs.kv_heads;
    shape.head_dim = op_.attrs.head_dim;
    shape.rope_dims = op_.attrs.rope_dims;
    shape.adjacent = op_.attrs.rope_adjacent;
    return shape;
  }

  std::array<std::uint32_t, 3> strides_of(const Strides& given, std::uint64_t heads) const {
    const Strides s = head_strides(op_.attrs.attention, given, sequence_rows(program_, op_).rows, heads,
                                   op_.attrs.head_dim);
    return {u32(s[0]), u32(s[1]), u32(s[2])};
  }

  RopeAppendShape rope_shape() const {
    const AttentionAttrs& a = op_.attrs.attention;
    RopeAppendShape shape = rows_shape();
    shape.context = u32(value(op_.in[1]).shape[0]);
    shape.table_by_row = op_.attrs.table_by_row;
    shape.all_rows = op_.in[2] == kNoValue;
    shape.x_strides = strides_of(a.q_strides, op_.attrs.heads);
    shape.y_strides = strides_of(a.y_strides, op_.attrs.heads);
    return shape;
  }

  RopeAppendShape append_shape(ValueId cache, ValueId table) const {
    const CacheForm form = cache_form(program_, cache, table, op_.attrs.attention.ring);
    RopeAppendShape shape = rows_shape();
    shape.kv_type = value(cache).dtype;
    shape.context = u32(form.capacity());
    shape.ring = form.ring;
    if (form.paged()) {
      shape.block_size = u32(form.slots);
      shape.blocks = u32(form.blocks);
    }
    if (op_.kind == OpKind::kv_append)
      shape.x_strides = strides_of(op_.attrs.attention.q_strides, op_.attrs.kv_heads);
    return shape;
  }

  RopeAppendShape rope_append_shape() const {
    RopeAppendShape shape = append_shape(op_.in[3], op_.in[5]);
    shape.v_dim = dim(op_.in[4]);
    shape.table_rows = u32(value(op_.in[1]).shape[0]);
    return shape;
  }

  // Strides of a tensor that is repeated along dimensions of one.
  Strides broadcast_strides(ValueId id) const {
    Strides strides{};
    std::uint64_t step = 1;
    for (std::size_t i = 4; i-- > 0;) {
      const std::uint64_t extent = value(id).shape[i];
      strides[i] = extent == 1 ? 0 : step;
      step *= extent;
    }
    return strides;
  }

  void lower_attention() {
    const auto in = [&](AttentionIn which) { return op_.in[static_cast<std::size_t>(which)]; };
    const auto has = [&](AttentionIn which) { return in(which) != kNoValue; };
    AttentionShape shape;
    shape.attrs = op_.attrs.attention;
    shape.q_type = value(in(AttentionIn::q)).dtype;
    shape.kv_type = value(in(AttentionIn::k)).dtype;
    shape.y_type = value(op_.out[0]).dtype;
    if (shape.attrs.block_size != 0) shape.blocks = u32(value(in(AttentionIn::k)).shape[0]);
    AttentionOperands& o = shape.operands;
    o.state = has(AttentionIn::state);
    o.slopes = has(AttentionIn::slopes);
    o.sinks = has(AttentionIn::sinks);
    o.lengths = has(AttentionIn::lengths);
    o.table = has(AttentionIn::table);
    o.lse = op_.out[1] != kNoValue;
    if (has(AttentionIn::documents)) o.documents = dim(in(AttentionIn::documents)) - 1;
    if (has(AttentionIn::mask)) {
      o.mask = value(in(AttentionIn::mask)).dtype;
      o.mask_strides = broadcast_strides(in(AttentionIn::mask));
    }
    if (has(AttentionIn::bias)) {
      o.bias = value(in(AttentionIn::bias)).dtype;
      o.bias_strides = broadcast_strides(in(AttentionIn::bias));
    }
    using namespace shader;
    std::vector<Operand> operands(kAttentionOperands);
    operands[kAttentionQ] = {in(AttentionIn::q)};
    operands[kAttentionK] = {in(AttentionIn::k)};
    operands[kAttentionV] = {in(AttentionIn::v)};
    operands[kAttentionState] = {in(AttentionIn::state)};
    operands[kAttentionOut] = {op_.out[0]};
    operands[kAttentionMask] = {in(AttentionIn::mask)};
    operands[kAttentionBias] = {in(AttentionIn::bias)};
    operands[kAttentionSlopes] = {in(AttentionIn::slopes)};
    operands[kAttentionSinks] = {in(AttentionIn::sinks)};
    operands[kAttentionLengths] = {in(AttentionIn::lengths)};
    operands[kAttentionDocuments] = {in(AttentionIn::documents)};
    operands[kAttentionTable] = {in(AttentionIn::table)};
    operands[kAttentionLse] = {op_.out[1]};
    operands[kAttentionScoresOperand] = {op_.out[2]};
    emit(shape, std::move(operands));
  }
};

}  // namespace

Result<void> lower_heads(const OpLowering& op) { return HeadsLowering(op).run(); }

}  // namespace tessera
