// The ops, one function a kind. Each reads the values as they are stored and gives what its outputs should
// hold; the walker stores it.
#pragma once

#include <array>
#include <vector>

#include "graph/state.h"
#include "reference/reference.h"
#include "reference/tensors.h"

namespace tessera {

struct OpCall {
  const Program& program;
  const Op& op;
  Tensors& tensors;
  StepState state;     // as it is before the op
  std::uint64_t rows;  // that the op computes (not for sample and advance)
  bool bounds;
  // With bounds, of precision mixed: the likely error of rounded operands instead of the largest.
  bool likely = false;

  // Operand i, kNoValue where it is absent.
  ValueId in(std::size_t i) const { return i < op.in.size() ? op.in[i] : kNoValue; }
  ValueId out(std::size_t i) const { return i < op.out.size() ? op.out[i] : kNoValue; }
  const Value& value(ValueId id) const { return program.values[id]; }
  Error error(Code code, const std::string& what) const { return Error{code, op.name + ": " + what}; }
  // The first `rows` of the leading dimension of operand i, which is real.
  std::vector<float> rows_of(std::size_t i) const {
    return tensors.floats(in(i), 0, rows * (value(in(i)).elems() / value(in(i)).shape[0]));
  }
  // A weight of one dimension; empty when absent.
  Result<std::vector<float>> vector_of(std::size_t i) const;
};

using Outputs = std::vector<ReferenceOutput>;

// Appends `expected` and, when asked for, the bound of an element that is off by `error` before it is stored.
void put(const OpCall& call, ReferenceOutput& out, double expected, double error);

Result<Outputs> run_embedding(const OpCall& call);
Result<Outputs> run_norm(const OpCall& call);
Result<Outputs> run_matmul(const OpCall& call);
Result<Outputs> run_feed_forward(const OpCall& call);
Result<Outputs> run_mlp(const OpCall& call);
Result<Outputs> run_rope(const OpCall& call);
Result<Outputs> run_kv_append(const OpCall& call);
Result<Outputs> run_rope_append(const OpCall& call);
Result<Outputs> run_qkv_append(const OpCall& call);
Result<Outputs> run_attention(const OpCall& call);
Result<Outputs> run_linear_attention(const OpCall& call);
Result<Outputs> run_add(const OpCall& call);
Result<Outputs> run_activation(const OpCall& call);
Result<Outputs> run_glu(const OpCall& call);
Result<Outputs> run_softmax(const OpCall& call);
Result<Outputs> run_last_row(const OpCall& call);
Result<Outputs> run_sample(const OpCall& call);
Result<Outputs> run_advance(const OpCall& call);

double activate(Activation act, double x);

// One row normalised, and the error of each element before the norm's weight is applied.
struct Normed {
  std::vector<double> value;
  std::vector<double> error;
  double inverse = 0;  // 1 / sqrt(mean of squares + eps)
};
// `s` is off by an ulp of itself when `rounded`. Without layer_norm no mean is removed.
Normed normalise(std::span<const double> s, bool rounded, bool layer_norm, double eps);

// Rows of x as a product takes them: as they are, or RMSNorm of them by a weight, or another product's.
struct ProductRows {
  std::vector<double> value;
  std::vector<double> error = {};   // with bounds, of what was computed: of each element, as it is multiplied
  DType type = DType::f32;          // that they are read as
  std::vector<double> likely = {};  // of rows that are products: see Product
};
Result<ProductRows> product_rows(const OpCall& call, std::size_t x, std::size_t norm);

// Rows by columns, and the error of each.
struct Product {
  std::vector<double> value;
  std::vector<double> error;   // with bounds
  std::vector<double> likely;  // with bounds, of an op with another product after it: bounds::likely_products
};
// scale x w^T + b, of all rows of x; w is matrix `matrix` of the weight.
Result<Product> multiply(const OpCall& call, const ProductRows& x, ValueId weight,
                         std::span<const float> bias, std::uint64_t matrix = 0);
// act(scale x w^T + b) [* (scale x up^T + up_bias)] of operands 1 to 4.
Result<Product> first_product(const OpCall& call, const ProductRows& x, std::uint64_t matrix = 0);
void activate(Activation act, Product& y);
// y += operand `residual`, if it is there.
void add_residual(const OpCall& call, std::size_t residual, Product& y);
Outputs give(const OpCall& call, const Product& y);

// Philox4x32 with 10 rounds (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key);

// The choice of sample, apart from where it is stored.
struct Choice {
  std::uint32_t status = kStatusOk;
  std::uint32_t id = 0;
  std::vector<std::uint32_t> acceptable = {};  // with bounds: see ReferenceOutput
};
// `recent`: the ids that the penalty is for, in any order, repeated or not. `position`: of the new token.
Choice choose_token(std::span<const float> logits, std::span<const std::uint32_t> recent,
                    std::uint32_t position, const SamplerParams& params, bool bounds);

}  // namespace tessera
