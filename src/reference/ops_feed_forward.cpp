// Products one after the other, where the second one's operands are off by what the first one's error is.
#include "reference/ops.h"

namespace tessera {
namespace {

ProductRows as_rows(Product&& y) {
  return {.value = std::move(y.value), .error = std::move(y.error), .likely = std::move(y.likely)};
}

}  // namespace

Result<Outputs> run_feed_forward(const OpCall& call) {
  TSR_TRY(const ProductRows x, product_rows(call, 0, 8));
  TSR_TRY(const std::vector<float> bias, call.vector_of(6));
  TSR_TRY(Product hidden, first_product(call, x));
  const ProductRows h = as_rows(std::move(hidden));
  TSR_TRY(Product y, multiply(call, h, call.in(5), bias));
  add_residual(call, 7, y);
  return give(call, y);
}

Result<Outputs> run_mlp(const OpCall& call) {
  TSR_TRY(ProductRows h, product_rows(call, 0, call.op.in.size()));  // no norm
  for (std::size_t layer = 0; layer < call.op.attrs.acts.size(); ++layer) {
    TSR_TRY(const std::vector<float> bias, call.vector_of(2 + 2 * layer));
    TSR_TRY(Product y, multiply(call, h, call.in(1 + 2 * layer), bias));
    activate(call.op.attrs.acts[layer], y);
    if (layer + 1 == call.op.attrs.acts.size()) return give(call, y);
    h = as_rows(std::move(y));
  }
  return call.error(Code::internal, "has no layers");
}

}  // namespace tessera
