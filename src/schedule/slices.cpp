#include "schedule/slices.h"

#include <algorithm>
#include <cmath>

namespace tessera {

Rates guess_rates(DeviceType type) {
  // Orders of magnitude only: a software driver on two cores reaches about 10 GFLOP/s and 4 GB/s with these
  // kernels, a small integrated GPU 200 and 20, a discrete one 2000 and 200.
  switch (type) {
    case DeviceType::cpu: return {1e4, 4e3, 20};
    case DeviceType::discrete: return {2e6, 2e5, 3};
    default: return {2e5, 2e4, 5};
  }
}

void estimate(const Rates& rates, std::vector<Step>& steps) {
  for (Step& step : steps)
    step.cost_us = rates.dispatch_us + std::max(step.dispatch.flops / rates.flops_per_us,
                                                step.dispatch.bytes / rates.bytes_per_us);
}

namespace {

// Parts of `piece` that each fit the budget: along its longest dimension, and along the others too where
// single rows of workgroups are over it.
void cut_piece(const Piece& piece, double budget_us, std::vector<Piece>& out) {
  const auto longest = std::max_element(piece.count.begin(), piece.count.end());
  const std::uint32_t length = *longest;
  if (piece.cost_us <= budget_us || length == 1) return out.push_back(piece);
  const auto dim = static_cast<std::size_t>(longest - piece.count.begin());
  const double fit =
      std::clamp(std::floor(length * budget_us / piece.cost_us), 1.0, static_cast<double>(length));
  const std::uint32_t most = static_cast<std::uint32_t>(fit);
  const std::uint32_t parts = (length + most - 1) / most;
  const std::uint32_t size = (length + parts - 1) / parts;  // even parts, none over `most`
  for (std::uint32_t begin = 0; begin < length; begin += size) {
    Piece part = piece;
    part.base[dim] += begin;
    part.count[dim] = std::min(size, length - begin);
    part.cost_us = piece.cost_us * part.count[dim] / length;
    part.barrier_before = piece.barrier_before || begin != 0;
    cut_piece(part, budget_us, out);
  }
}

}  // namespace

std::vector<Slice> cut_slices(const std::vector<Step>& steps, double budget_us) {
  std::vector<Slice> slices;
  std::vector<Piece> pieces;
  for (std::uint32_t i = 0; i < steps.size(); ++i)
    cut_piece({.step = i,
               .count = steps[i].dispatch.grid,
               .barrier_before = steps[i].barrier_before,
               .cost_us = steps[i].cost_us},
              budget_us, pieces);
  for (const Piece& piece : pieces) {
    if (slices.empty() || slices.back().cost_us + piece.cost_us > budget_us) slices.emplace_back();
    slices.back().cost_us += piece.cost_us;
    slices.back().pieces.push_back(piece);
  }
  return slices;
}

}  // namespace tessera
