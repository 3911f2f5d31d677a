#include "schedule/lower.h"

#include <algorithm>
#include <numeric>

#include "graph/kv_cache.h"
#include "interface/attention_params.h"

namespace tessera {
namespace {

static_assert(kNormOnLoadRows <= kMatmulFewRows);

class Lowering {
 public:
  Lowering(const Program& program, const Graph& graph, const MemoryMap& map, const Limits& limits)
      : program_(program), graph_(graph), map_(map), limits_(limits) {}

  Result<std::vector<Call>> run() {
    for (op_ = 0; op_ < graph_.ops.size(); ++op_) TSR_CHECK(lower_op(graph_.ops[op_]));
    return std::move(calls_);
  }

 private:
  const Value& value(ValueId id) const { return program_.values[id]; }
  static std::uint32_t u32(std::uint64_t x) { return static_cast<std::uint32_t>(x); }
  std::uint32_t rows(ValueId id) const { return u32(value(id).elems() / value(id).last_dim()); }
  std::uint32_t dim(ValueId id) const { return u32(value(id).last_dim()); }
  // Absent where no op needs it: kernels without dynamic rows have it bound, and do not read it.
  Operand state() const {
    return map_.places[program_.state].bytes != 0 ? Operand{program_.state} : Operand{};
  }

  template <typename Shape>
  void emit(Shape shape, std::vector<Operand> operands) {
    calls_.push_back({op_, std::move(shape), std::move(operands)});
  }

  // The most rows of a weight that one binding covers; every window but the last begins at an aligned offset,
  // and has a multiple of `fours` rows.
  Result<std::uint64_t> window_rows(ValueId weight, std::uint64_t fours = 1) const {
    const std::uint64_t row_bytes = map_.places[weight].row_bytes;
    const std::uint64_t step =
        std::lcm(fours, limits_.min_storage_alignment / std::gcd(row_bytes, limits_.min_storage_alignment));
    const std::uint64_t total = map_.places[weight].bytes / row_bytes;
    const std::uint64_t most = limits_.max_storage_range / row_bytes;
    if (most >= total) return total;
    if (most < step)
      return Error{Code::unsupported, "'" + value(weight).name + "' is bound " + std::to_string(step) +
                                          " rows at a time, of " + std::to_string(row_bytes) +
                                          " bytes each: too many for bindings of " +
                                          std::to_string(limits_.max_storage_range)};
    return most / step * step;
  }

  Result<void> lower_op(const Op& op) {
    switch (op.kind) {
      case OpKind::embedding: return lower_embedding(op);
      case OpKind::norm: lower_norm(op); break;
      case OpKind::matmul: return lower_matmul(op);
      case OpKind::qkv_append: return lower_qkv_append(op);
      case OpKind::feed_forward: return lower_feed_forward(op);
      case OpKind::mlp: return lower_mlp(op);
      case OpKind::rope:
        emit(RopeCall{rope_shape(op)}, {{op.in[0]}, {op.in[1]}, {op.in[2]}, {op.out[0]}});
        break;
      case OpKind::kv_append:
        emit(KvAppendCall{append_shape(op, op.in[2], op.in[3])},
             {{op.in[0]}, {op.in[1]}, {op.in[2]}, {op.in[3]}});
        break;
      case OpKind::rope_append:
        emit(rope_append_shape(op),
             {{op.in[0]}, {op.in[1]}, {op.in[2]}, {op.out[0]}, {op.in[3]}, {op.in[4]}, {op.in[5]}});
        break;
      case OpKind::attention: lower_attention(op); break;
      case OpKind::linear_attention: lower_linear_attention(op); break;
      case OpKind::add: lower_elementwise(op, Elementwise::add, op.in[1]); break;
      case OpKind::activation: lower_elementwise(op, Elementwise::activation, kNoValue); break;
      case OpKind::glu: lower_elementwise(op, Elementwise::glu, op.in[1]); break;
      case OpKind::softmax: {
        const std::vector<std::uint64_t>& shape = value(op.in[0]).shape;
        emit(SoftmaxShape{.outer = u32(shape[0]), .n = u32(shape[1]), .inner = u32(shape[2])},
             {{op.in[0]}, {op.out[0]}});
        break;
      }
      case OpKind::last_row:
        emit(LastRowCall{dim(op.in[0]), op.in[2] != kNoValue},
             {{op.in[0]}, {op.in[1]}, {op.in[2]}, {op.out[0]}});
        break;
      case OpKind::sample:
        emit(SampleCall{dim(op.in[0]), u32(value(op.in[1]).elems())},
             {{op.in[0]}, {op.in[1]}, {op.in[2]}, {op.in[3]}});
        break;
      case OpKind::advance: emit(AdvanceCall{op.attrs.chunk}, {{op.in[0]}}); break;
    }
    return {};
  }

  Result<void> lower_embedding(const Op& op) {
    const ValueId table = op.in[2], positions = op.in[3];
    TSR_TRY(const std::uint64_t window, window_rows(table));
    const std::uint64_t vocab = value(table).shape[0];
    for (std::uint64_t first = 0; first < vocab; first += window) {
      const std::uint64_t count = std::min(window, vocab - first);
      emit(EmbeddingShape{.rows = rows(op.out[0]),
                          .dim = dim(op.out[0]),
                          .type = value(table).dtype,
                          .first = u32(first),
                          .count = u32(count),
                          .batch = op.attrs.batch,
                          .positions = positions != kNoValue,
                          .scale = op.attrs.embedding_scale},
           {{op.in[0]}, {op.in[1]}, {table, first, count}, {op.out[0]}, {positions}});
    }
    return {};
  }

  void lower_norm(const Op& op) {
    const NormShape shape{.rows = rows(op.out[0]),
                          .dim = dim(op.out[0]),
                          .dynamic_rows = value(op.out[0]).dynamic_rows,
                          .layer_norm = op.attrs.layer_norm,
                          .bias = op.in[2] != kNoValue,
                          .residual = op.in[3] != kNoValue,
                          .eps = op.attrs.eps};
    emit(shape, {{op.in[0]},
                 {op.in[1]},
                 {op.in[2]},
                 {op.in[3]},
                 {op.out[0]},
                 {op.out.size() > 1 ? op.out[1] : kNoValue},
                 state()});
  }

  // Without the columns.
  MatmulShape matmul_shape(const Op& op, const MatmulLayout& at) const {
    const ValueId w = op.in[1], y = op.out[0];
    return {.rows = u32(at.rows),
            .n = u32(at.n),
            .k = u32(at.k),
            .y_stride = u32(at.y_row),
            .dynamic_rows = value(y).dynamic_rows,
            .type = value(w).dtype,
            .act = static_cast<std::uint32_t>(op.attrs.act),
            .gated = op.in[3] != kNoValue,
            .bias = op.in[2] != kNoValue,
            .residual = op.in[5] != kNoValue,
            .scale = op.attrs.scale,
            .x_type = value(op.in[0]).dtype,
            .y_type = value(y).dtype,
            .x_stride = u32(at.x_row),
            .precision = op.attrs.precision,
            .norm = op.in[6] != kNoValue,
            .eps = op.attrs.eps};
  }

  Result<void> lower_matmul(const Op& op) {
    const MatmulLayout at = matmul_layout(program_, op);
    const MatmulShape whole = matmul_shape(op, at);
    const ValueId w = op.in[1], up = op.in[3];
    if (value(w).shape.size() == 3) return lower_batch(op, at, whole);
    TSR_TRY(std::uint64_t window, window_rows(w));
    if (up != kNoValue) {
      TSR_TRY(const std::uint64_t up_window, window_rows(up));
      window = std::min(window, up_window);
    }
    for (std::uint64_t first = 0; first < at.n; first += window) {
      const std::uint64_t count = std::min(window, at.n - first);
      MatmulShape shape = whole;
      shape.n = u32(count);
      shape.first = u32(first);
      emit(shape, {{op.in[0]},
                   {w, first, count},
                   {up, first, up == kNoValue ? 0 : count},
                   {op.in[2]},
                   {op.in[4]},
                   {op.out[0]},
                   state(),
                   {op.in[5]}});
      if (whole.norm) calls_.back().operands.push_back({op.in[6]});
    }
    return {};
  }

  // The most matrices of a weight (and of `up`) that one binding covers; those after them, and their rows of
  // x, y and residual, begin at aligned offsets.
  Result<std::uint64_t> window_matrices(const Op& op, const MatmulLayout& at) const {
    const std::uint64_t matrix_bytes = at.n * map_.places[op.in[1]].row_bytes;  // of `up` as well
    const std::uint64_t most = limits_.max_storage_range / matrix_bytes;
    if (most >= at.batch) return at.batch;
    const auto too_large = [&](std::uint64_t matrices) {
      return Error{Code::unsupported, "'" + value(op.in[1]).name + "' is bound " + std::to_string(matrices) +
                                          (matrices == 1 ? " matrix" : " matrices") + " at a time, of " +
                                          std::to_string(matrix_bytes) +
                                          " bytes each: too much for bindings of " +
                                          std::to_string(limits_.max_storage_range)};
    };
    if (most == 0) return too_large(1);
    const std::uint64_t align = std::max<std::uint64_t>(limits_.min_storage_alignment, 16);
    std::uint64_t step = 1;
    for (const std::uint64_t bytes :
         {matrix_bytes, at.x_batch * element_bytes(op.in[0]), at.y_batch * element_bytes(op.out[0])})
      step = std::lcm(step, align / std::gcd(bytes, align));
    if (most < step) return too_large(step);
    return most / step * step;
  }

  std::uint64_t element_bytes(ValueId id) const { return info(value(id).dtype).block_bytes; }

  Result<void> lower_batch(const Op& op, const MatmulLayout& at, const MatmulShape& whole) {
    TSR_TRY(const std::uint64_t window, window_matrices(op, at));
    const ValueId x = op.in[0], w = op.in[1], up = op.in[3], y = op.out[0], residual = op.in[5];
    for (std::uint64_t first = 0; first < at.batch; first += window) {
      const std::uint64_t count = std::min(window, at.batch - first);
      MatmulShape shape = whole;
      shape.batch = u32(count);
      shape.x_batch = u32(at.x_batch);
      shape.w_batch = u32(at.w_batch);
      shape.y_batch = u32(at.y_batch);
      const auto matrices = [&](ValueId id) {
        return Operand{id, first * at.n, id == kNoValue ? 0 : count * at.n};
      };
      const auto from = [&](ValueId id, std::uint64_t stride) {
        return Operand{.value = id, .from_byte = id == kNoValue ? 0 : first * stride * element_bytes(id)};
      };
      emit(shape, {from(x, at.x_batch),
                   matrices(w),
                   matrices(up),
                   {op.in[2]},
                   {op.in[4]},
                   from(y, at.y_batch),
                   state(),
                   from(residual, at.y_batch)});
    }
    return {};
  }

  Result<void> lower_qkv_append(const Op& op) {
    const ValueId x = op.in[0], w = op.in[1], bias = op.in[2], norm = op.in[3];
    TSR_TRY(const std::uint64_t window, window_rows(w, 4));
    QkvShape shape;
    shape.append = append_shape(op, op.in[6], op.in[8]);
    shape.append.v_dim = dim(op.in[7]);
    shape.append.table_rows = u32(value(op.in[4]).shape[0]);
    const std::uint64_t n = value(w).shape[0];
    for (std::uint64_t first = 0; first < n; first += window) {
      const std::uint64_t count = std::min(window, n - first);
      shape.product = {.rows = rows(x),
                       .n = u32(count),
                       .k = dim(w),
                       .first = u32(first),
                       .dynamic_rows = value(op.out[0]).dynamic_rows,
                       .type = value(w).dtype,
                       .bias = bias != kNoValue,
                       .x_type = value(x).dtype,
                       .norm = norm != kNoValue,
                       .eps = op.attrs.eps};
      emit(shape, {{x},
                   {w, first, count},
                   {},
                   {bias},
                   {},
                   {op.out[0]},
                   state(),
                   {},
                   {norm},
                   {op.in[4]},
                   {op.in[6]},
                   {op.in[7]},
                   {op.in[8]}});
    }
    return {};
  }

  // Rows of `weight` that a binding holds, 0 where it holds all; with `other`, of both.
  Result<std::uint32_t> window_of(ValueId weight, ValueId other = kNoValue) const {
    TSR_TRY(std::uint64_t window, window_rows(weight));
    if (other != kNoValue) {
      TSR_TRY(const std::uint64_t second, window_rows(other));
      window = std::min(window, second);
    }
    return window < value(weight).shape[0] ? u32(window) : 0;
  }

  Result<void> lower_feed_forward(const Op& op) {
    const ValueId w = op.in[1], up = op.in[3], down = op.in[5], y = op.out[0];
    FeedForwardShape shape{.rows = rows(y),
                           .k = dim(w),
                           .hidden = u32(value(w).shape[0]),
                           .n = dim(y),
                           .dynamic_rows = value(y).dynamic_rows,
                           .type = value(w).dtype,
                           .down_type = value(down).dtype,
                           .act = static_cast<std::uint32_t>(op.attrs.act),
                           .gated = up != kNoValue,
                           .bias = op.in[2] != kNoValue,
                           .down_bias = op.in[6] != kNoValue,
                           .residual = op.in[7] != kNoValue,
                           .x_type = value(op.in[0]).dtype,
                           .y_type = value(y).dtype,
                           .precision = op.attrs.precision,
                           .norm = op.in[8] != kNoValue,
                           .eps = op.attrs.eps};
    TSR_TRY(shape.hidden_window, window_of(w, up));
    TSR_TRY(shape.n_window, window_of(down));
    // A weight that takes windows is not bound whole.
    const auto whole = [](ValueId id, std::uint32_t window) { return Operand{window == 0 ? id : kNoValue}; };
    std::vector<Operand> operands{{op.in[0]},
                                  whole(w, shape.hidden_window),
                                  whole(up, shape.hidden_window),
                                  {op.in[2]},
                                  {op.in[4]},
                                  whole(down, shape.n_window),
                                  {op.in[6]},
                                  {y},
                                  state(),
                                  {op.in[7]},
                                  {op.in[8]}};
    for (std::uint32_t first = 0; shape.hidden_window != 0 && first < shape.hidden;
         first += shape.hidden_window)
      for (const ValueId id : {w, up})
        operands.push_back(
            {id, id == kNoValue ? 0 : first, std::min(shape.hidden_window, shape.hidden - first)});
    for (std::uint32_t first = 0; shape.n_window != 0 && first < shape.n; first += shape.n_window)
      operands.push_back({down, first, std::min(shape.n_window, shape.n - first)});
    emit(shape, std::move(operands));
    return {};
  }

  Result<void> lower_mlp(const Op& op) {
    const ValueId y = op.out[0];
    MlpShape shape{.rows = rows(y),
                   .k = dim(op.in[0]),
                   .dynamic_rows = value(y).dynamic_rows,
                   .type = value(op.in[1]).dtype,
                   .x_type = value(op.in[0]).dtype,
                   .y_type = value(y).dtype};
    std::vector<Operand> operands{{op.in[0]}, {}, {y}, state()};
    ValueId first = op.in[1], last = op.in[1];
    bool together = true;
    for (std::size_t i = 0; i < op.attrs.acts.size(); ++i) {
      const ValueId w = op.in[1 + 2 * i], bias = op.in[2 + 2 * i];
      TSR_TRY(const std::uint32_t window, window_of(w));
      shape.layers.push_back(
          {.n = dim_out(w), .act = static_cast<std::uint32_t>(op.attrs.acts[i]), .window = window});
      for (const ValueId id : {w, bias}) {
        if (id == kNoValue) continue;
        together = together && map_.places[id].buffer == map_.places[first].buffer;
        if (map_.places[id].offset < map_.places[first].offset) first = id;
        if (map_.places[id].offset > map_.places[last].offset) last = id;
        operands.push_back(id == w && window != 0 ? Operand{} : Operand{id});
      }
      if (bias == kNoValue) operands.push_back({});
      shape.layers.back().bias = bias != kNoValue;
    }
    if (together) {
      const Place &from = map_.places[first], &to = map_.places[last];
      shape.weight_bytes = to.offset + to.bytes - from.offset;
      for (std::size_t i = 0; i < shape.layers.size(); ++i) {
        const ValueId w = op.in[1 + 2 * i], bias = op.in[2 + 2 * i];
        shape.layers[i].weights_at = map_.places[w].offset - from.offset;
        if (bias != kNoValue) shape.layers[i].bias_at = map_.places[bias].offset - from.offset;
      }
      operands[1] = {first, 0, 0, last};
    }
    for (std::size_t i = 0; i < shape.layers.size(); ++i) {
      const MlpLayer& layer = shape.layers[i];
      for (std::uint32_t at = 0; layer.window != 0 && at < layer.n; at += layer.window)
        operands.push_back({op.in[1 + 2 * i], at, std::min(layer.window, layer.n - at)});
    }
    emit(std::move(shape), std::move(operands));
    return {};
  }

  // Rows of a weight.
  std::uint32_t dim_out(ValueId weight) const { return u32(value(weight).shape[0]); }

  // What rope and the appends share.
  RopeAppendShape rows_shape(const Op& op) const {
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

  std::array<std::uint32_t, 3> strides_of(const Op& op, const Strides& given, std::uint64_t heads) const {
    const Strides s =
        head_strides(op.attrs.attention, given, sequence_rows(program_, op).rows, heads, op.attrs.head_dim);
    return {u32(s[0]), u32(s[1]), u32(s[2])};
  }

  RopeAppendShape rope_shape(const Op& op) const {
    const AttentionAttrs& a = op.attrs.attention;
    RopeAppendShape shape = rows_shape(op);
    shape.context = u32(value(op.in[1]).shape[0]);
    shape.table_by_row = op.attrs.table_by_row;
    shape.all_rows = op.in[2] == kNoValue;
    shape.x_strides = strides_of(op, a.q_strides, op.attrs.heads);
    shape.y_strides = strides_of(op, a.y_strides, op.attrs.heads);
    return shape;
  }

  RopeAppendShape append_shape(const Op& op, ValueId cache, ValueId table) const {
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

  RopeAppendShape rope_append_shape(const Op& op) const {
    RopeAppendShape shape = append_shape(op, op.in[3], op.in[5]);
    shape.v_dim = dim(op.in[4]);
    shape.table_rows = u32(value(op.in[1]).shape[0]);
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

  void lower_attention(const Op& op) {
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

  void lower_linear_attention(const Op& op) {
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

  void lower_elementwise(const Op& op, Elementwise kind, ValueId b) {
    emit(ElementwiseShape{.rows = rows(op.out[0]),
                          .dim = dim(op.out[0]),
                          .dynamic_rows = value(op.out[0]).dynamic_rows,
                          .kind = kind,
                          .act = static_cast<std::uint32_t>(op.attrs.act)},
         {{op.in[0]}, {b}, {op.out[0]}, state()});
  }

  const Program& program_;
  const Graph& graph_;
  const MemoryMap& map_;
  const Limits& limits_;
  std::uint32_t op_ = 0;
  std::vector<Call> calls_;
};

}  // namespace

Result<std::vector<Call>> lower(const Program& program, const Graph& graph, const MemoryMap& map,
                                const Limits& limits) {
  return Lowering(program, graph, map, limits).run();
}

}  // namespace tessera
