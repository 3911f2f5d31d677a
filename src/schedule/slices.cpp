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

// Pieces of one step that each fit the budget, as far as its grid can be cut along one dimension.
std::vector<Piece> cut_step(std::uint32_t index, const Step& step, double budget_us) {
  const auto& grid = step.dispatch.grid;
  const std::size_t dim = static_cast<std::size_t>(std::max_element(grid.begin(), grid.end()) - grid.begin());
  const double fit =
      std::clamp(std::floor(grid[dim] * budget_us / step.cost_us), 1.0, static_cast<double>(grid[dim]));
  const std::uint32_t most = static_cast<std::uint32_t>(fit);
  const std::uint32_t pieces = (grid[dim] + most - 1) / most;
  const std::uint32_t size = (grid[dim] + pieces - 1) / pieces;  // even pieces, none over `most`
  std::vector<Piece> out;
  for (std::uint32_t begin = 0; begin < grid[dim]; begin += size) {
    Piece piece{.step = index, .count = grid};
    piece.base[dim] = begin;
    piece.count[dim] = std::min(size, grid[dim] - begin);
    piece.cost_us = step.cost_us * piece.count[dim] / grid[dim];
    piece.barrier_before = step.barrier_before || begin != 0;
    out.push_back(piece);
  }
  return out;
}

}  // namespace

std::vector<Slice> cut_slices(const std::vector<Step>& steps, double budget_us) {
  std::vector<Slice> slices;
  for (std::uint32_t i = 0; i < steps.size(); ++i)
    for (const Piece& piece : cut_step(i, steps[i], budget_us)) {
      if (slices.empty() || slices.back().cost_us + piece.cost_us > budget_us) slices.emplace_back();
      slices.back().cost_us += piece.cost_us;
      slices.back().pieces.push_back(piece);
    }
  return slices;
}

}  // namespace tessera
