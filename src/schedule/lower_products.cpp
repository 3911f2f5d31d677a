#include <array>

#include "schedule/lower_op.h"

namespace tessera {
namespace {

// Products with weights, one, several side by side, or several in a row.
class ProductsLowering : OpLowering {
 public:
  explicit ProductsLowering(const OpLowering& op) : OpLowering(op) {}

  Result<void> run() {
    switch (op_.kind) {
      case OpKind::matmul: return lower_matmul();
      case OpKind::feed_forward: return lower_feed_forward();
      default: return lower_mlp();
    }
  }

 private:
  // Without the columns.
  MatmulShape matmul_shape(const MatmulLayout& at) const {
    const ValueId w = op_.in[1], y = op_.out[0];
    return {.rows = u32(at.rows),
            .n = u32(at.n),
            .k = u32(at.k),
            .y_stride = u32(at.y_row),
            .dynamic_rows = value(y).dynamic_rows,
            .type = value(w).dtype,
            .act = static_cast<std::uint32_t>(op_.attrs.act),
            .gated = op_.in[3] != kNoValue,
            .bias = op_.in[2] != kNoValue,
            .residual = op_.in[5] != kNoValue,
            .scale = op_.attrs.scale,
            .x_type = value(op_.in[0]).dtype,
            .y_type = value(y).dtype,
            .x_stride = u32(at.x_row),
            .precision = op_.attrs.precision,
            .norm = op_.in[6] != kNoValue,
            .eps = op_.attrs.eps};
  }

  Result<void> lower_matmul() {
    const MatmulLayout at = matmul_layout(program_, op_);
    const MatmulShape whole = matmul_shape(at);
    const ValueId w = op_.in[1], up = op_.in[3];
    if (value(w).shape.size() > 2) return lower_batch(at, whole);
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
      emit(shape, {{op_.in[0]},
                   {w, first, count},
                   {up, first, up == kNoValue ? 0 : count},
                   {op_.in[2]},
                   {op_.in[4]},
                   {op_.out[0]},
                   state(),
                   {op_.in[5]}});
      if (whole.norm) calls_.back().operands.push_back({op_.in[6]});
    }
    return {};
  }

  std::uint64_t element_bytes(ValueId id) const { return info(value(id).dtype).block_bytes; }

  // Bytes from one product to the next by the strides of x, w and y, and by that of biases of each matrix.
  std::array<std::uint64_t, 4> steps_of(std::uint64_t x, std::uint64_t w, std::uint64_t y) const {
    return {x * element_bytes(op_.in[0]), w * map_.places[op_.in[1]].row_bytes, y * element_bytes(op_.out[0]),
            has_biases() ? w * 4 : 0};
  }
  bool has_biases() const { return op_.in[2] != kNoValue && value(op_.in[2]).shape.size() > 1; }

  // The most matrices of a weight (and of `up`) that one binding covers, of a group of products; those after
  // them, and their rows of x, y and residual, begin at aligned offsets, and so do groups.
  Result<std::uint64_t> window_matrices(const MatmulLayout& at) const {
    const std::uint64_t matrix_bytes = at.n * map_.places[op_.in[1]].row_bytes;  // of `up` as well
    const std::uint64_t align = std::max<std::uint64_t>(limits_.min_storage_alignment, 16);
    const auto too_large = [&](std::uint64_t matrices) {
      return Error{Code::unsupported, "'" + value(op_.in[1]).name + "' is bound " + std::to_string(matrices) +
                                          (matrices == 1 ? " matrix" : " matrices") + " at a time, of " +
                                          std::to_string(matrix_bytes) +
                                          " bytes each: too much for bindings of " +
                                          std::to_string(limits_.max_storage_range)};
    };
    const std::uint64_t most = limits_.max_storage_range / matrix_bytes;
    if (most == 0) return too_large(1);
    for (const std::uint64_t bytes : steps_of(at.x_outer, at.w_outer, at.inner * at.y_batch))
      if (at.inner != at.batch && bytes % align != 0)
        return Error{Code::unsupported, "'" + value(op_.in[1]).name +
                                            "' takes several bindings, and groups of its products begin " +
                                            std::to_string(bytes) + " bytes apart, no multiple of " +
                                            std::to_string(align)};
    if (at.w_batch == 0 || most >= at.inner) return at.inner;
    std::uint64_t step = 1;
    for (const std::uint64_t bytes : steps_of(at.x_batch, at.w_batch, at.y_batch))
      step = std::lcm(step, align / std::gcd(bytes, align));
    if (most < step) return too_large(step);
    return most / step * step;
  }

  // `count` products from the first-th on, of one group or all.
  void emit_products(const MatmulLayout& at, MatmulShape shape, std::uint64_t first, std::uint64_t count) {
    const ValueId w = op_.in[1], up = op_.in[3];
    const bool all = count == at.batch;
    shape.batch = u32(count);
    shape.inner = all ? u32(at.inner) : 0;
    shape.x_batch = u32(at.x_batch);
    shape.w_batch = u32(at.w_batch);
    shape.y_batch = u32(at.y_batch);
    shape.x_outer = all ? u32(at.x_outer) : 0;
    shape.w_outer = all ? u32(at.w_outer) : 0;
    shape.biases = has_biases();
    const std::uint64_t w_rows = all ? row_count(value(w)) : at.w_batch != 0 ? count * at.n : at.n;
    const auto matrices = [&](ValueId id) {
      return Operand{id, at.w_at(first), id == kNoValue ? 0 : w_rows};
    };
    const auto from = [&](ValueId id, std::uint64_t bytes) {
      return Operand{.value = id, .from_byte = id == kNoValue ? 0 : bytes};
    };
    const std::uint64_t y_bytes = first * at.y_batch * element_bytes(op_.out[0]);
    const std::uint64_t bias_bytes = shape.biases ? at.w_at(first) * 4 : 0;
    emit(shape, {from(op_.in[0], at.x_at(first) * element_bytes(op_.in[0])), matrices(w), matrices(up),
                 from(op_.in[2], bias_bytes), from(op_.in[4], bias_bytes), from(op_.out[0], y_bytes), state(),
                 from(op_.in[5], y_bytes)});
  }

  // One call where a binding has all matrices; else calls of products of a group.
  Result<void> lower_batch(const MatmulLayout& at, const MatmulShape& whole) {
    if (map_.places[op_.in[1]].bytes <= limits_.max_storage_range) {
      emit_products(at, whole, 0, at.batch);
      return {};
    }
    TSR_TRY(const std::uint64_t window, window_matrices(at));
    for (std::uint64_t group = 0; group < at.batch; group += at.inner)
      for (std::uint64_t first = 0; first < at.inner; first += window)
        emit_products(at, whole, group + first, std::min(window, at.inner - first));
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

  Result<void> lower_feed_forward() {
    const ValueId w = op_.in[1], up = op_.in[3], down = op_.in[5], y = op_.out[0];
    FeedForwardShape shape{.rows = rows(y),
                           .k = dim(w),
                           .hidden = u32(value(w).shape[0]),
                           .n = dim(y),
                           .dynamic_rows = value(y).dynamic_rows,
                           .type = value(w).dtype,
                           .down_type = value(down).dtype,
                           .act = static_cast<std::uint32_t>(op_.attrs.act),
                           .gated = up != kNoValue,
                           .bias = op_.in[2] != kNoValue,
                           .down_bias = op_.in[6] != kNoValue,
                           .residual = op_.in[7] != kNoValue,
                           .x_type = value(op_.in[0]).dtype,
                           .y_type = value(y).dtype,
                           .precision = op_.attrs.precision,
                           .norm = op_.in[8] != kNoValue,
                           .eps = op_.attrs.eps};
    TSR_TRY(shape.hidden_window, window_of(w, up));
    TSR_TRY(shape.n_window, window_of(down));
    // A weight that takes windows is not bound whole.
    const auto whole = [](ValueId id, std::uint32_t window) { return Operand{window == 0 ? id : kNoValue}; };
    std::vector<Operand> operands{{op_.in[0]},
                                  whole(w, shape.hidden_window),
                                  whole(up, shape.hidden_window),
                                  {op_.in[2]},
                                  {op_.in[4]},
                                  whole(down, shape.n_window),
                                  {op_.in[6]},
                                  {y},
                                  state(),
                                  {op_.in[7]},
                                  {op_.in[8]}};
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

  Result<void> lower_mlp() {
    const ValueId y = op_.out[0];
    MlpShape shape{.rows = rows(y),
                   .k = dim(op_.in[0]),
                   .dynamic_rows = value(y).dynamic_rows,
                   .type = value(op_.in[1]).dtype,
                   .x_type = value(op_.in[0]).dtype,
                   .y_type = value(y).dtype};
    std::vector<Operand> operands{{op_.in[0]}, {}, {y}, state()};
    ValueId first = op_.in[1], last = op_.in[1];
    bool together = true;
    for (std::size_t i = 0; i < op_.attrs.acts.size(); ++i) {
      const ValueId w = op_.in[1 + 2 * i], bias = op_.in[2 + 2 * i];
      TSR_TRY(const std::uint32_t window, window_of(w));
      shape.layers.push_back(
          {.n = dim_out(w), .act = static_cast<std::uint32_t>(op_.attrs.acts[i]), .window = window});
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
        const ValueId w = op_.in[1 + 2 * i], bias = op_.in[2 + 2 * i];
        shape.layers[i].weights_at = map_.places[w].offset - from.offset;
        if (bias != kNoValue) shape.layers[i].bias_at = map_.places[bias].offset - from.offset;
      }
      operands[1] = {first, 0, 0, last};
    }
    for (std::size_t i = 0; i < shape.layers.size(); ++i) {
      const MlpLayer& layer = shape.layers[i];
      for (std::uint32_t at = 0; layer.window != 0 && at < layer.n; at += layer.window)
        operands.push_back({op_.in[1 + 2 * i], at, std::min(layer.window, layer.n - at)});
    }
    emit(std::move(shape), std::move(operands));
    return {};
  }

  // Rows of a weight.
  std::uint32_t dim_out(ValueId weight) const { return u32(value(weight).shape[0]); }
};

}  // namespace

Result<void> lower_products(const OpLowering& op) { return ProductsLowering(op).run(); }

}  // namespace tessera
