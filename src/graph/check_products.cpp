#include <algorithm>
#include <cmath>

#include "graph/check.h"

namespace tessera {
namespace {

// Products with weights, one or several in a row.
class ProductsChecker : OpCheck {
 public:
  ProductsChecker(const Program& program, const Graph& graph, const Op& op) : OpCheck(program, graph, op) {}

  std::string run() {
    switch (op_.kind) {
      case OpKind::matmul: matmul(); break;
      case OpKind::feed_forward: feed_forward(); break;
      default: mlp(); break;
    }
    return error_;
  }

 private:
  void matmul() {
    if (!std::isfinite(op_.attrs.scale)) reject("scale is not finite");
    if (in(1).shape.size() > 2) return batched();
    for (const std::size_t i : {0, 1}) expect_rank(op_.in[i], 2);
    if (op_.attrs.rows_first) reject("rows_first is of several matrices");
    if (!error_.empty()) return;
    const std::uint64_t k = in(0).shape[1], n = in(1).shape[0];
    expect_x_and_y(k, n);
    first_product(k, n);
    residual_and_norm(5, 6, n);
  }

  // Products with the matrices of w.
  void batched() {
    const std::size_t rank = in(1).shape.size();
    if (rank > (op_.attrs.rows_first ? 3 : 4))
      reject("value " + in(1).name + " is " + print_shape(in(1)) + ", which has too many dimensions");
    expect_rank(op_.in[0], rank);
    if (!error_.empty()) return;
    const std::uint64_t n = in(1).shape[rank - 2], k = in(0).shape.back();
    if (value(op_.out[0]).dynamic_rows && !op_.attrs.rows_first)
      reject("value " + value(op_.out[0]).name + " " + print_shape(value(op_.out[0])) +
             " has dynamic rows, which come first");
    Shape x, y;
    if (op_.attrs.rows_first) {
      x = y = {in(0).shape[0], in(1).shape[0]};
    } else {
      for (std::size_t i = 0; i + 2 < rank; ++i) {
        const std::uint64_t x_dim = in(0).shape[i], w_dim = in(1).shape[i];
        x.push_back(x_dim == 1 || w_dim == 1 ? x_dim : w_dim);
        y.push_back(std::max(x.back(), w_dim));
      }
      for (Shape* shape : {&x, &y}) shape->push_back(in(0).shape[rank - 2]);
    }
    x.push_back(k);
    y.push_back(n);
    activations(op_.in[0], x, in(0).dtype);
    for (const ValueId id : {op_.in[5], op_.out[0]})
      if (id != kNoValue) activations(id, y, value(op_.out[0]).dtype);
    for (const std::size_t i : {0, 5})
      if (has_in(i)) same_rows(op_.in[i], op_.out[0]);
    first_product(k, n);
    if (has_in(6)) reject("several products with one matrix each take no norm");
  }

  void activations(ValueId id, const Shape& shape, DType type) {
    expect_real_rows(id);
    expect_computed(id, shape, type);
  }

  void feed_forward() {
    for (const std::size_t i : {0, 1, 5}) expect_rank(op_.in[i], 2);
    if (!error_.empty()) return;
    const std::uint64_t k = in(0).shape[1], hidden = in(1).shape[0], n = in(5).shape[0];
    expect_x_and_y(k, n);
    first_product(k, hidden);
    expect_weight(op_.in[5], {n, hidden}, in(5).dtype);
    if (has_in(6)) expect_vector(op_.in[6], n);
    if (op_.attrs.scale != 1) reject("takes no scale");
    residual_and_norm(7, 8, n);
  }

  void mlp() {
    expect_rank(op_.in[0], 2);
    if (!error_.empty()) return;
    std::uint64_t width = in(0).shape[1];
    for (std::size_t i = 1; i < op_.in.size() && error_.empty(); i += 2) {
      expect_rank(op_.in[i], 2);
      if (!error_.empty()) return;
      expect_weight(op_.in[i], {in(i).shape[0], width}, in(1).dtype);
      width = in(i).shape[0];
      if (has_in(i + 1)) expect_vector(op_.in[i + 1], width);
    }
    if (op_.attrs.scale != 1) reject("takes no scale");
    if (op_.attrs.act != Activation::none) reject("takes acts, one a layer, not act");
    if (op_.attrs.precision != Precision::f32) reject("computes in F32: takes no other precision");
    if (error_.empty()) expect_x_and_y(in(0).shape[1], width);
  }

  // (rows, k) and (rows, n), each f32 or f16.
  void expect_x_and_y(std::uint64_t k, std::uint64_t n) {
    for (const ValueId id : {op_.in[0], op_.out[0]}) expect_real_rows(id);
    if (!error_.empty()) return;
    expect_rows(op_.in[0], in(0).shape[0], k, in(0).dtype);
    expect_rows(op_.out[0], in(0).shape[0], n, value(op_.out[0]).dtype);
    same_rows(op_.in[0], op_.out[0]);
  }

  void expect_real_rows(ValueId id) {
    if (const DType type = value(id).dtype; type != DType::f32 && type != DType::f16)
      reject("value " + value(id).name + " is " + std::string(info(type).name) +
             ", activations must be F32 or F16");
  }

  // w, bias, up and up_bias, operands 1 to 4.
  void first_product(std::uint64_t k, std::uint64_t n) {
    Shape matrices = in(1).shape;
    matrices.back() = k;
    expect_weight(op_.in[1], matrices, in(1).dtype);
    if (has_in(2)) expect_bias(op_.in[2], n);
    if (has_in(3)) expect_weight(op_.in[3], matrices, in(1).dtype);
    if (has_in(4) && !has_in(3)) return reject("has a bias of a second matrix but no second matrix");
    if (has_in(3) && has_in(2) != has_in(4)) return reject("has a bias of one of its two matrices alone");
    if (has_in(4)) expect_bias(op_.in[4], n);
    if (has_in(4) && in(2).shape != in(4).shape)
      reject("value " + in(4).name + " is " + print_shape(in(4)) + ", " + in(2).name + " is " +
             print_shape(in(2)));
  }

  // Of all products, or of each of several matrices.
  void expect_bias(ValueId id, std::uint64_t n) {
    if (value(id).shape.size() == 1 || in(1).shape.size() == 2) return expect_vector(id, n);
    expect(id, Shape(in(1).shape.begin(), in(1).shape.end() - 1));
    if (value(id).storage != Storage::constant) reject("value " + value(id).name + " must be a constant");
  }

  void residual_and_norm(std::size_t residual, std::size_t norm, std::uint64_t n) {
    if (has_in(norm)) expect_norm(norm);
    if (!has_in(residual)) return;
    expect_rows(op_.in[residual], in(0).shape[0], n, value(op_.out[0]).dtype);
    same_rows(op_.in[residual], op_.out[0]);
  }
};

}  // namespace

std::string check_products(const Program& program, const Graph& graph, const Op& op) {
  return ProductsChecker(program, graph, op).run();
}

}  // namespace tessera
