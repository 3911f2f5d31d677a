// Products one after the other, where the second one's operands are off by what the first one's error is.
#include <cmath>

#include "reference/bounds.h"
#include "reference/ops.h"

namespace tessera {
namespace {

ProductRows as_rows(Product&& y) {
  return {.value = std::move(y.value),
          .error = std::move(y.error),
          .likely = std::move(y.likely),
          .shifts = std::move(y.shifts)};
}

// What the first product's operands are off by in trials: as results of a norm, and as precision mixed has
// them.
void draw_shifts(const OpCall& call, ProductRows& x) {
  const bool mixed = call.op.attrs.precision == Precision::mixed;
  if (!call.bounds || (!mixed && x.error.empty())) return;
  const Value& weight = call.value(call.in(1));
  const std::uint64_t k = weight.last_dim();
  const bool blocks = info(weight.dtype).block_elems > 1;
  x.shifts.resize(x.value.size());
  for (std::size_t first = 0; first < x.value.size(); first += k) {
    const std::span<const double> row = std::span(x.value).subspan(first, k);
    const std::vector<double> rounded =
        mixed ? bounds::mixed_operands(row, x.type, weight.dtype) : std::vector<double>(k);
    for (std::size_t i = 0; i < k; ++i) {
      const double error = rounded[i] + (x.error.empty() ? 0 : x.error[first + i]);
      trials::shift(x.shifts[first + i], std::copysign(error, row[i]),
                    mixed && blocks ? trials::key_of(row[i], i / bounds::kDotBlock) : trials::key_of(row[i]));
    }
  }
}

}  // namespace

Result<Outputs> run_feed_forward(const OpCall& call) {
  TSR_TRY(ProductRows x, product_rows(call, 0, 8));
  draw_shifts(call, x);
  TSR_TRY(const std::vector<float> bias, call.vector_of(6));
  TSR_TRY(Product hidden, first_product(call, x));
  const ProductRows h = as_rows(std::move(hidden));
  TSR_TRY(Product y, multiply(call, h, {.weight = call.in(5), .bias = bias}));
  add_residual(call, 7, y);
  return give(call, y);
}

Result<Outputs> run_mlp(const OpCall& call) {
  TSR_TRY(ProductRows h, product_rows(call, 0, call.op.in.size()));  // no norm
  const std::size_t layers = call.op.attrs.acts.size();
  for (std::size_t layer = 0; layer < layers; ++layer) {
    TSR_TRY(const std::vector<float> bias, call.vector_of(2 + 2 * layer));
    TSR_TRY(Product y,
            multiply(call, h, {.weight = call.in(1 + 2 * layer), .bias = bias, .inner = layer + 1 < layers}));
    activate(call.op.attrs.acts[layer], y);
    if (layer + 1 == layers) return give(call, y);
    h = as_rows(std::move(y));
  }
  return call.error(Code::internal, "has no layers");
}

}  // namespace tessera
