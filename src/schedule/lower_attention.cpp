#include "schedule/lowering.h"

#include "graph/kv_cache.h"
#include "interface/attention_params.h"

namespace tessera {

RopeAppendShape Lowering::rows_shape(const Op& op) const {
  const SequenceRows sequences = sequence_rows(program_, op);
  RopeAppendShape shape;
  shape.batch = u32(sequences.batch);
  shape.rows = u32(sequences.rows);
  shape.heads = op.attrs.heads;
  shape.kv_heads = op.attrs.kv_heads;
  shape.head_dim = op.attrs.head_dim;
  shape.rope_dims = op.attrs.rope_dims;
  shape.adjacent = op.attrs.rope_adjacent;
  return shape;
}

std::array<std::uint32_t, 3> Lowering::strides_of(const Op& op, const Strides& given,
                                                  std::uint64_t heads) const {
  const Strides s =
      head_strides(op.attrs.attention, given, sequence_rows(program_, op).rows, heads, op.attrs.head_dim);
  return {u32(s[0]), u32(s[1]), u32(s[2])};
}

RopeAppendShape Lowering::rope_shape(const Op& op) const {
  const AttentionAttrs& a = op.attrs.attention;
  RopeAppendShape shape = rows_shape(op);
  shape.context = u32(value(op.in[1]).shape[0]);
  shape.table_by_row = op.attrs.table_by_row;
  shape.all_rows = op.in[2] == kNoValue;
  shape.x_strides = strides_of(op, a.q_strides, op.attrs.heads);
  shape.y_strides = strides_of(op, a.y_strides, op.attrs.heads);
  return shape;
}

RopeAppendShape Lowering::append_shape(const Op& op, ValueId cache, ValueId table) const {
  const CacheForm form = cache_form(program_, cache, table, op.attrs.attention.ring);
  RopeAppendShape shape = rows_shape(op);
  shape.kv_type = value(cache).dtype;
  shape.context = u32(form.capacity());
  shape.ring = form.ring;
  if (form.paged()) {
    shape.block_size = u32(form.slots);
    shape.blocks = u32(form.blocks);
  }
  if (op.kind == OpKind::kv_append)
    shape.x_strides = strides_of(op, op.attrs.attention.q_strides, op.attrs.kv_heads);
  return shape;
}

RopeAppendShape Lowering::rope_append_shape(const Op& op) const {
  RopeAppendShape shape = append_shape(op, op.in[3], op.in[5]);
  shape.v_dim = dim(op.in[4]);
  shape.table_rows = u32(value(op.in[1]).shape[0]);
  return shape;
}

Strides Lowering::broadcast_strides(ValueId id) const {
  Strides strides{};
  std::uint64_t step = 1;
  for (std::size_t i = 4; i-- > 0;) {
    const std::uint64_t extent = value(id).shape[i];
    strides[i] = extent == 1 ? 0 : step;
    step *= extent;
  }
  return strides;
}

void Lowering::lower_attention(const Op& op) {
  const auto in = [&](AttentionIn which) { return op.in[static_cast<std::size_t>(which)]; };
  const auto has = [&](AttentionIn which) { return in(which) != kNoValue; };
  AttentionShape shape;
  shape.attrs = op.attrs.attention;
  shape.q_type = value(in(AttentionIn::q)).dtype;
  shape.kv_type = value(in(AttentionIn::k)).dtype;
  shape.y_type = value(op.out[0]).dtype;
  if (shape.attrs.block_size != 0) shape.blocks = u32(value(in(AttentionIn::k)).shape[0]);
  AttentionOperands& o = shape.operands;
  o.state = has(AttentionIn::state);
  o.slopes = has(AttentionIn::slopes);
  o.sinks = has(AttentionIn::sinks);
  o.lengths = has(AttentionIn::lengths);
  o.table = has(AttentionIn::table);
  o.prefixes = has(AttentionIn::prefixes);
  o.lse = op.out[1] != kNoValue;
  if (has(AttentionIn::lists)) o.list_words = value(in(AttentionIn::lists)).elems();
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
  operands[kAttentionOut] = {op.out[0]};
  operands[kAttentionMask] = {in(AttentionIn::mask)};
  operands[kAttentionBias] = {in(AttentionIn::bias)};
  operands[kAttentionSlopes] = {in(AttentionIn::slopes)};
  operands[kAttentionSinks] = {in(AttentionIn::sinks)};
  operands[kAttentionDocuments] = {in(AttentionIn::documents)};
  operands[kAttentionTable] = {in(AttentionIn::table)};
  operands[kAttentionLists] = {in(AttentionIn::lists)};
  operands[kAttentionLse] = {op.out[1]};
  operands[kAttentionVector] = {in(AttentionIn::vector)};
  operands[kAttentionScoresOperand] = {op.out[2]};
  operands[kAttentionLengthsOperand] = {in(AttentionIn::lengths)};
  operands[kAttentionPrefixesOperand] = {in(AttentionIn::prefixes)};
  operands[kAttentionRelativeOperand] = {in(AttentionIn::relative)};
  for (std::size_t i = static_cast<std::size_t>(AttentionIn::count); i < op.in.size(); ++i)
    operands.push_back({op.in[i]});
  emit(shape, std::move(operands));
}

void Lowering::lower_linear_attention(const Op& op) {
  const auto in = [&](LinearIn which) { return op.in[static_cast<std::size_t>(which)]; };
  LinearAttentionShape shape{.attrs = op.attrs.linear,
                             .k_type = value(in(LinearIn::k)).dtype,
                             .v_type = value(in(LinearIn::v)).dtype,
                             .past = in(LinearIn::past) != kNoValue,
                             .past_normaliser = in(LinearIn::past_normaliser) != kNoValue,
                             .present = op.out[1] != kNoValue,
                             .normaliser = op.out[2] != kNoValue};
  shape.output = op.out[0] != kNoValue;
  if (shape.output) shape.q_type = value(in(LinearIn::q)).dtype;
  if (shape.output) shape.y_type = value(op.out[0]).dtype;
  std::vector<Operand> operands;
  for (const auto* list : {&op.in, &op.out})
    for (const ValueId id : *list) operands.push_back({id});
  emit(shape, std::move(operands));
}

}  // namespace tessera
