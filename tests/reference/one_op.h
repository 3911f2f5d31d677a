// Programs made by hand: values with their data, one graph.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>

#include "graph/state.h"
#include "reference/reference.h"

namespace tessera::test {

template <typename T>
std::span<const std::byte> bytes_of(const std::vector<T>& data) {
  return std::as_bytes(std::span(data));
}

class MemoryWeights : public WeightReader {
 public:
  Result<void> read(const Value& weight, std::uint64_t first_row, std::span<std::byte> out) const override {
    const std::vector<std::byte>& all = files.at(weight.name);
    const std::uint64_t row = row_bytes(weight);
    if (first_row * row + out.size() > all.size()) return Error{Code::internal, weight.name + ": too far"};
    std::memcpy(out.data(), all.data() + first_row * row, out.size());
    return {};
  }
  std::map<std::string, std::vector<std::byte>> files;
};

// A program under construction, and the walker made of it.
class Bench {
 public:
  Bench() {
    program_->weights = weights_;
    program_->state = add("state", Storage::input, DType::u32, {8}, false);
    program_->graphs.push_back({"g", 1, {}});
  }

  ValueId add(std::string name, Storage storage, DType dtype, std::vector<std::uint64_t> shape,
              bool dynamic) {
    Value value;
    value.name = std::move(name) + "." + std::to_string(program_->values.size());
    value.storage = storage;
    value.dtype = dtype;
    value.shape = std::move(shape);
    value.dynamic_rows = dynamic;
    program_->values.push_back(std::move(value));
    return static_cast<ValueId>(program_->values.size() - 1);
  }
  ValueId weight(DType dtype, std::vector<std::uint64_t> shape, std::vector<std::byte> file) {
    const ValueId id = add("weight", Storage::weight, dtype, std::move(shape), false);
    weights_->files[program_->values[id].name] = std::move(file);
    return id;
  }
  ValueId weight(std::vector<std::uint64_t> shape, const std::vector<float>& data) {
    const auto bytes = bytes_of(data);
    return weight(DType::f32, std::move(shape), {bytes.begin(), bytes.end()});
  }
  ValueId constant(std::vector<std::uint64_t> shape, std::vector<float> data) {
    const ValueId id = add("constant", Storage::constant, DType::f32, std::move(shape), false);
    program_->values[id].data = std::make_shared<const std::vector<float>>(std::move(data));
    return id;
  }
  // An activation is written by the graph; its data is put there by write_floats() before run_op().
  ValueId activation(std::vector<std::uint64_t> shape, bool dynamic = false, DType dtype = DType::f32) {
    return add("activation", Storage::activation, dtype, std::move(shape), dynamic);
  }
  // As an output of the graph, so that Program::check() lets ops read it without a producer.
  ValueId given(std::vector<std::uint64_t> shape, bool dynamic = false, DType dtype = DType::f32) {
    return add("given", Storage::output, dtype, std::move(shape), dynamic);
  }
  void op(OpKind kind, OpAttrs attrs, std::vector<ValueId> in, std::vector<ValueId> out) {
    program_->graphs[0].ops.push_back({kind, "the_op", attrs, std::move(in), std::move(out)});
  }
  ValueId state() const { return program_->state; }
  Program& program() { return *program_; }
  Graph& graph() { return program_->graphs[0]; }

  ReferenceWalker& walker() {
    if (!walker_) {
      auto made = ReferenceWalker::create(program_);
      if (!made.ok()) throw std::runtime_error(made.error().message);
      walker_ = *std::move(made);
    }
    return *walker_;
  }
  template <typename T>
  void write(ValueId value, const std::vector<T>& data) {
    const auto done = walker().write(value, 0, bytes_of(data));
    ASSERT_TRUE(done.ok()) << done.error().message;
  }
  void write_state(const StepState& state) {
    ASSERT_TRUE(walker().write(program_->state, 0, std::as_bytes(std::span(&state, 1))).ok());
  }
  template <typename T>
  std::vector<T> read(ValueId value, std::size_t n) {
    std::vector<T> out(n);
    EXPECT_TRUE(walker().read(value, 0, std::as_writable_bytes(std::span(out))).ok());
    return out;
  }
  StepState read_state() {
    StepState out;
    EXPECT_TRUE(walker().read(program_->state, 0, std::as_writable_bytes(std::span(&out, 1))).ok());
    return out;
  }
  std::vector<ReferenceOutput> run(bool bounds = true) {
    auto out = walker().run_op(0, 0, bounds);
    EXPECT_TRUE(out.ok()) << out.error().message;
    return out.ok() ? *std::move(out) : std::vector<ReferenceOutput>{};
  }

 private:
  std::shared_ptr<Program> program_ = std::make_shared<Program>();
  std::shared_ptr<MemoryWeights> weights_ = std::make_shared<MemoryWeights>();
  std::unique_ptr<ReferenceWalker> walker_;
};

}  // namespace tessera::test
