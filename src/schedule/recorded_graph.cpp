#include "schedule/recorded_graph.h"

#include <algorithm>
#include <array>

namespace tessera {
namespace {

Result<double> microseconds(CommandList& commands) {
  std::array<double, 2> ns{};
  TSR_CHECK(commands.timestamps(ns));
  return ns[1] / 1000;
}

}  // namespace

Result<RecordedGraph::Lists> RecordedGraph::record_slices(Device& device,
                                                          std::span<const Slice> slices) const {
  Lists lists;
  for (const Slice& slice : slices) {
    TSR_TRY(auto commands, device.create_command_list(2));
    commands->timestamp(0);
    for (const Piece& piece : slice.pieces) record_piece(*commands, scheduled_.steps, bound_, piece);
    commands->timestamp(1);
    if (&slice == &slices.back()) commands->barrier_to_host();
    TSR_CHECK(commands->finish());
    lists.push_back(std::move(commands));
  }
  return lists;
}

Result<void> RecordedGraph::record(Device& device, double slice_us) {
  std::vector<Slice> slices = cut_slices(scheduled_.steps, slice_us);
  TSR_TRY(Lists lists, record_slices(device, slices));
  recorded_.clear();
  for (std::size_t s = 0; s < slices.size(); ++s)
    recorded_.push_back({.slice = std::move(slices[s]), .commands = std::move(lists[s])});
  costs_.reset(recorded_.size(), max_rows_);
  unread_ = 0;
  worst_us_ = sum_us_ = 0;
  finest_us_ = kAnything;
  return {};
}

Result<void> RecordedGraph::record_again(Device& device) {
  if (auto last = seconds(); last.ok()) seconds_ = *last;
  std::vector<Slice> slices;
  for (const Recorded& r : recorded_) slices.push_back(r.slice);
  TSR_TRY(Lists lists, record_slices(device, slices));
  for (std::size_t s = 0; s < slices.size(); ++s) {
    recorded_[s].commands = std::move(lists[s]);
    recorded_[s].value = 0;
    recorded_[s].measure = Measure::none;
  }
  unread_ = 0;
  return {};
}

double RecordedGraph::cost_us() const {
  double sum = 0;
  for (const Step& step : scheduled_.steps) sum += step.cost_us;
  return sum;
}

void RecordedGraph::submitted(const SliceRun& run, std::uint64_t value, Measure measure) {
  for (std::uint32_t i = run.first; i < run.first + run.count; ++i) {
    Recorded& r = recorded_[i];
    unread_ += measure != Measure::none;
    unread_ -= r.measure != Measure::none;
    r.value = value;
    r.run = run;
    r.measure = measure;
  }
  if (run.first + run.count == slices()) ++runs_;
}

Result<void> RecordedGraph::read_times(std::uint64_t completed) {
  bool read = false;
  for (std::size_t i = 0; i < recorded_.size() && unread_ > 0; ++i) {
    Recorded& r = recorded_[i];
    if (r.measure == Measure::none || r.value > completed) continue;
    TSR_TRY(const double us, microseconds(*r.commands));
    // A clock that stands still within a submission says nothing: the slice stays unknown.
    if (r.measure == Measure::cost && us > 0) costs_.measured(i, r.run.rows, r.run.position + r.run.rows, us);
    r.us = r.last_us == 0 ? us : std::min(us, r.last_us);
    r.last_us = us;
    r.measure = Measure::none;
    --unread_;
    read = true;
  }
  if (!read) return {};
  worst_us_ = sum_us_ = 0;
  bool all = true;
  for (const Recorded& r : recorded_) {
    worst_us_ = std::max(worst_us_, r.us);
    sum_us_ += r.us;
    all = all && r.last_us > 0;
  }
  if (!all) sum_us_ = 0;
  return {};
}

Result<double> RecordedGraph::seconds() const {
  if (recorded_.empty() || recorded_.back().value == 0) {
    if (seconds_ > 0) return seconds_;
    return Error{Code::unsupported, "the graph has not been run"};
  }
  double sum = 0;
  for (const Recorded& r : recorded_) {
    TSR_TRY(const double us, microseconds(*r.commands));
    sum += us * 1e-6;
  }
  return sum;
}

Result<bool> RecordedGraph::refine(Device& device, double slice_us) {
  std::vector<double> measured_us(scheduled_.steps.size(), 0);
  double sum_us = 0;
  bool whole = true;  // all rows were measured
  const bool coarser = too_fine();
  for (const Recorded& r : recorded_) {
    sum_us += r.us;
    whole = whole && r.run.rows >= max_rows_;
    for (const Piece& piece : r.slice.pieces)
      measured_us[piece.step] += piece.cost_us * r.us / r.slice.cost_us;
  }
  // Of fewer rows a measurement only raises an estimate, which is for all of them. A mask may leave more with
  // other buffers, and is not measured then: slices are to stay short.
  const double least = !whole ? 1 : masked_ ? 1.0 / 32 : 0;
  for (std::size_t i = 0; i < measured_us.size(); ++i) {
    double& cost_us = scheduled_.steps[i].cost_us;
    cost_us = std::max(cost_us * least, measured_us[i]);
  }
  const double run_seconds = recorded_.back().value == 0 ? seconds_ : sum_us * 1e-6;
  const std::size_t now = cut_slices(scheduled_.steps, slice_us).size();
  bool other = now > recorded_.size() || (coarser && now < recorded_.size());
  if (other) {
    const auto recorded = record(device, slice_us);
    if (!recorded.ok() && recorded.error().code != Code::out_of_memory) return recorded.error();
    other = recorded.ok();
  }
  if (!other) finest_us_ = slice_us;
  seconds_ = run_seconds;
  return other;
}

}  // namespace tessera
