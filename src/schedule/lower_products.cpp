#include "schedule/lowering.h"

#include <algorithm>
#include <numeric>

namespace tessera {

static_assert(kNormOnLoadRows <= kMatmulFewRows);

Result<std::uint64_t> Lowering::window_rows(ValueId weight, std::uint64_t fours) const {
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

Result<std::uint32_t> Lowering::window_of(ValueId weight, ValueId other) const {
  TSR_TRY(std::uint64_t window, window_rows(weight));
  if (other != kNoValue) {
    TSR_TRY(const std::uint64_t second, window_rows(other));
    window = std::min(window, second);
  }
  return window < value(weight).shape[0] ? u32(window) : 0;
}

MatmulShape Lowering::matmul_shape(const Op& op, const MatmulLayout& at) const {
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

Result<void> Lowering::lower_matmul(const Op& op) {
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

Result<std::uint64_t> Lowering::window_matrices(const Op& op, const MatmulLayout& at) const {
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

Result<void> Lowering::lower_batch(const Op& op, const MatmulLayout& at, const MatmulShape& whole) {
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

Result<void> Lowering::lower_qkv_append(const Op& op) {
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

Result<void> Lowering::lower_feed_forward(const Op& op) {
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

Result<void> Lowering::lower_mlp(const Op& op) {
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

}  // namespace tessera
