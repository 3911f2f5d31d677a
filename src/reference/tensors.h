// The values of a program in host memory, as the ops of the reference see them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "graph/graph.h"
#include "graph/state.h"

namespace tessera {

// The values that some op names, ascending: fusion leaves others behind, which get no memory.
std::vector<ValueId> used_values(const Program& program);

class Tensors {
 public:
  // Weights are kept as floats once decoded when all of them together take no more than this; otherwise each
  // op that runs decodes the rows it needs, one at a time, and only vectors are kept.
  static constexpr std::uint64_t kKeepBytes = std::uint64_t{256} << 20;

  explicit Tensors(const Program& program, std::uint64_t keep_bytes = kKeepBytes);

  // Bytes of a value that is neither weight nor constant, zero at first; empty where no op names it.
  std::span<std::byte> bytes(ValueId value) { return memory_[value]; }
  std::span<const std::byte> bytes(ValueId value) const { return memory_[value]; }

  // Elements [first, first + n) of a constant or of a value that is neither words nor a weight.
  std::vector<float> floats(ValueId value, std::uint64_t first, std::uint64_t n) const;
  // The same into `out`.
  void read(ValueId value, std::uint64_t first, std::span<float> out) const;
  std::uint32_t word(ValueId value, std::uint64_t index) const;  // of a u32 value
  StepState state(ValueId value) const;
  SamplerParams sampler(ValueId value) const;

  // Rounds to the value's dtype, to nearest even; u32 ones take integers. Not for Q8_0.
  void store(ValueId value, std::uint64_t element, double number);

  // Elements of a cache from `first` on: whole blocks of Q8_0.
  void store_row(ValueId cache, std::uint64_t first, std::span<const float> numbers);

  // A weight or constant, whole.
  Result<std::vector<float>> vector(ValueId id);
  // Calls `use(row, floats)` for rows [first, first + n) of a weight or constant in order.
  using RowUse = std::function<void(std::uint64_t row, std::span<const float> values)>;
  Result<void> for_rows(ValueId id, std::uint64_t first, std::uint64_t n, const RowUse& use);

 private:
  // All of a constant, or of a weight that is kept.
  Result<std::span<const float>> whole(ValueId id);
  Result<void> decode(ValueId weight, std::uint64_t first, std::span<float> out) const;

  const Program& program_;
  std::vector<std::vector<std::byte>> memory_;  // by value; empty for weights and constants
  std::vector<std::vector<float>> kept_;        // by value; decoded weights
  bool keep_ = false;
};

}  // namespace tessera
