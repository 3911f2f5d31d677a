// Parts of lower().
#pragma once

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "schedule/lower.h"

namespace tessera {

// One op on its way to calls, and what several kinds need for it.
class OpLowering {
 public:
  OpLowering(const Program& program, const MemoryMap& map, const Limits& limits, const Op& op,
             std::uint32_t index, std::vector<Call>& calls)
      : program_(program), map_(map), limits_(limits), op_(op), index_(index), calls_(calls) {}

 protected:
  const Value& value(ValueId id) const { return program_.values[id]; }
  static std::uint32_t u32(std::uint64_t x) { return static_cast<std::uint32_t>(x); }
  std::uint32_t rows(ValueId id) const { return u32(value(id).elems() / value(id).last_dim()); }
  std::uint32_t dim(ValueId id) const { return u32(value(id).last_dim()); }
  // Absent where no op needs it: kernels without dynamic rows have it bound, and do not read it.
  Operand state() const {
    return map_.places[program_.state].bytes != 0 ? Operand{program_.state} : Operand{};
  }

  template <typename Shape>
  void emit(Shape shape, std::vector<Operand> operands) {
    calls_.push_back({index_, std::move(shape), std::move(operands)});
  }

  // The most rows of a weight that one binding covers; every window but the last begins at an aligned offset,
  // and has a multiple of `fours` rows.
  Result<std::uint64_t> window_rows(ValueId weight, std::uint64_t fours = 1) const {
    const std::uint64_t row_bytes = map_.places[weight].row_bytes;
    const std::uint64_t step =
        std::lcm(fours, limits_.min_storage_alignment / std::gcd(row_bytes, limits_.min_storage_alignment));
    const std::uint64_t total = map_.places[weight].bytes / row_bytes;
    const std::uint64_t most = limits_.max_storage_range / row_bytes;
    if (most >= total) return total;
    if (most < step)
      return Error{Code::unsupported, "'" + value(weight).name + "' is bound " + std::to_string(step) +
                                          " rows at a time, of " + std::to_string(row_bytes) +
                                          " bytes each: too many for bindings of " +
                                          std::to_string(limits_.max_storage_range)};
    return most / step * step;
  }

  const Program& program_;
  const MemoryMap& map_;
  const Limits& limits_;
  const Op& op_;
  std::uint32_t index_;  // of the op in its graph
  std::vector<Call>& calls_;
};

// Kinds matmul, feed_forward and mlp.
Result<void> lower_products(const OpLowering& op);
// Kinds rope, kv_append, rope_append, qkv_append and attention.
Result<void> lower_heads(const OpLowering& op);

}  // namespace tessera
