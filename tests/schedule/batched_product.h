// A program of one matmul with several matrices.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace tessera::test {

struct BatchedProduct {
  std::uint64_t batch = 2, rows = 1, n = 1, k = 1;
  bool rows_first = false, dynamic = false, gated = false;
  bool more = false;    // biases, residual, scale
  bool biases = false;  // with more, of each matrix
  DType type = DType::f32, x_type = DType::f32, y_type = DType::f32;
  Precision precision = Precision::f32;
  std::vector<std::uint64_t> x_batch = {}, w_batch = {};  // empty: (batch)

  std::vector<std::uint64_t> x_dims() const { return x_batch.empty() ? std::vector{batch} : x_batch; }
  std::vector<std::uint64_t> w_dims() const { return w_batch.empty() ? std::vector{batch} : w_batch; }
  std::vector<std::uint64_t> y_dims() const {
    std::vector<std::uint64_t> dims = x_dims();
    for (std::size_t i = 0; i < dims.size(); ++i) dims[i] = std::max(dims[i], w_dims()[i]);
    return dims;
  }
};

// x and residual are outputs, which a host may write.
struct BatchedProgram {
  BatchedProduct shape;
  Program program;
  ValueId x = kNoValue, w = kNoValue, bias = kNoValue, up = kNoValue, up_bias = kNoValue, residual = kNoValue,
          y = kNoValue;

  explicit BatchedProgram(const BatchedProduct& p) : shape(p) {
    program.state = add("state", Storage::input, DType::u32, {8});
    x = activations("x", p.x_type, p.x_dims(), p.k);
    std::vector<std::uint64_t> matrices = p.w_dims();
    matrices.insert(matrices.end(), {p.n, p.k});
    w = add("w", Storage::weight, p.type, matrices);
    if (p.gated) up = add("up", Storage::weight, p.type, matrices);
    if (p.more) {
      bias = constant("bias", 0.9f);
      if (p.gated) up_bias = constant("up_bias", 0.4f);
      residual = activations("residual", p.y_type, p.y_dims(), p.n);
    }
    y = activations("y", p.y_type, p.y_dims(), p.n);
    OpAttrs attrs;
    attrs.rows_first = p.rows_first;
    attrs.act = p.gated ? Activation::silu : p.more ? Activation::relu : Activation::none;
    attrs.scale = p.more ? -0.75f : 1;
    attrs.precision = p.precision;
    program.graphs.push_back({"g", static_cast<std::uint32_t>(p.rows), {}});
    program.graphs[0].ops = {
        {OpKind::matmul, "product", attrs, {x, w, bias, up, up_bias, residual, kNoValue}, {y}}};
  }

  std::uint64_t elems(ValueId id) const { return program.values[id].elems(); }

 private:
  ValueId add(const char* name, Storage storage, DType type, std::vector<std::uint64_t> dims) {
    Value v;
    v.name = name;
    v.storage = storage;
    v.dtype = type;
    v.shape = std::move(dims);
    program.values.push_back(std::move(v));
    return static_cast<ValueId>(program.values.size() - 1);
  }
  ValueId activations(const char* name, DType type, std::vector<std::uint64_t> dims, std::uint64_t columns) {
    dims.insert(dims.end(), {shape.rows, columns});
    if (shape.rows_first) std::swap(dims[0], dims[1]);
    const ValueId id = add(name, Storage::output, type, std::move(dims));
    program.values[id].dynamic_rows = shape.dynamic;
    return id;
  }
  ValueId constant(const char* name, float step) {
    std::vector<std::uint64_t> dims;
    if (shape.biases) dims = shape.w_dims();
    dims.push_back(shape.n);
    const ValueId id = add(name, Storage::constant, DType::f32, std::move(dims));
    std::vector<float> data(elems(id));
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = step * static_cast<float>(i % 17) / 4 - 1;
    program.values[id].data = std::make_shared<const std::vector<float>>(std::move(data));
    return id;
  }
};

}  // namespace tessera::test
