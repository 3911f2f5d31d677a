// One lookup: tokens -> rows of a table -> a product with a weight of `n` rows, of any sizes.
#pragma once

#include <string>
#include <vector>

#include "models/builder.h"

namespace tessera::test {

struct Lookup {
  Program program;
  ValueId tokens = kNoValue, table = kNoValue, weight = kNoValue, x = kNoValue, y = kNoValue;

  Lookup(std::uint64_t vocab, std::uint64_t n, std::uint64_t k, DType type, std::uint32_t rows = 1) {
    tokens = add("tokens", Storage::input, DType::u32, {65});
    program.state = add("state", Storage::input, DType::u32, {8});
    table = add("table", Storage::weight, type, {vocab, k});
    weight = add("weight", Storage::weight, type, {n, k});
    y = add("y", Storage::output, DType::f32, {rows, n});
    GraphBuilder g(program, "lookup", rows, false);
    x = g.embedding("x", tokens, table);
    g.matmul("y", x, weight, kNoValue, y);
    g.finish();
  }
  ValueId add(const std::string& name, Storage storage, DType dtype, std::vector<std::uint64_t> shape) {
    Value v;
    v.name = name;
    v.storage = storage;
    v.dtype = dtype;
    v.shape = std::move(shape);
    return add_value(program, std::move(v));
  }
  const Graph& graph() const { return program.graphs[0]; }
};

}  // namespace tessera::test
