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
    if (in(1).shape.size() == 3) return batched();
    for (const std::size_t i : {0, 1}) expect_rank(op_.in[i], 2);
    if (op_.attrs.rows_first) reject("rows_first is of several matrices");
    if (!error_.empty()) return;
    const std::uint64_t k = in(0).shape[1], n = in(1).shape[0];
    expect_x_and_y(k, n);
    first_product(k, n);
    residual_and_norm(5, 6, n);
  }

  // A product for each matrix of w.
  void batched() {
    expect_rank(op_.in[0], 3);
    if (!error_.empty()) return;
    const std::uint64_t batch = in(1).shape[0], n = in(1).shape[1], k = in(0).shape[2];
    const std::uint64_t rows = in(0).shape[op_.attrs.rows_first ? 0 : 1];
    if (value(op_.out[0]).dynamic_rows && !op_.attrs.rows_first)
      reject("value " + value(op_.out[0]).name + " " + print_shape(value(op_.out[0])) +
             " has dynamic rows, which come first");
    const auto shape = [&](std::uint64_t columns) {
      return op_.attrs.rows_first ? Shape{rows, batch, columns} : Shape{batch, rows, columns};
    };
    for (const std::size_t i : {0, 5}) {
      if (!has_in(i)) continue;
      activations(op_.in[i], shape(i == 0 ? k : n), i == 0 ? in(0).dtype : value(op_.out[0]).dtype);
      same_rows(op_.in[i], op_.out[0]);
    }
    activations(op_.out[0], shape(n), value(op_.out[0]).dtype);
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
    Shape matrices{n, k};
    if (in(1).shape.size() == 3) matrices.insert(matrices.begin(), in(1).shape[0]);
    expect_weight(op_.in[1], matrices, in(1).dtype);
    if (has_in(2)) expect_vector(op_.in[2], n);
    if (has_in(3)) expect_weight(op_.in[3], matrices, in(1).dtype);
    if (has_in(4) && !has_in(3)) return reject("has a bias of a second matrix but no second matrix");
    if (has_in(3) && has_in(2) != has_in(4)) return reject("has a bias of one of its two matrices alone");
    if (has_in(4)) expect_vector(op_.in[4], n);
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
