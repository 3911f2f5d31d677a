#include "bench/run_ops.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>

#include "kernels/target.h"
#include "schedule/graph_plan.h"

namespace tessera::bench {
namespace {

constexpr double kOneSlice = 1e12;  // microseconds: a benchmark's op is one dispatch, never cut
constexpr std::uint32_t kLeastSamples = 3;
constexpr std::uint32_t kWarmUps = 2;
constexpr double kWarmUpSeconds = 0.05;  // at least, on the host's clock: GPUs raise theirs under load

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

Result<void> give(Walker& walker, const OneOp& op) {
  for (const OneOp::Write& w : op.writes) TSR_CHECK(walker.write(w.value, 0, w.bytes));
  return walker.write(op.state.value, 0, op.state.bytes);
}

double element_at(DType type, std::span<const std::byte> bytes, std::uint64_t i) {
  if (type == DType::u32) {
    std::uint32_t word = 0;
    std::memcpy(&word, bytes.data() + 4 * i, 4);
    return word;
  }
  float x = 0;
  const std::size_t size = info(type).block_bytes;
  decode_row(type, bytes.subspan(i * size, size), {&x, 1});
  return x;
}

void judge(const ReferenceOutput& expected, std::size_t i, double found, std::uint64_t at, OpTime& out) {
  ++out.checked;
  const double error = std::abs(found - expected.expected[i]);
  if (error != 0 && expected.bound[i] > 0)
    out.worst_ratio = std::max(out.worst_ratio, error / expected.bound[i]);
  if (expected.accepts(i, found) || out.wrong) return;
  out.wrong = true;
  out.failed = "element " + std::to_string(at) + " is " + std::to_string(found) + ", the reference has " +
               std::to_string(expected.expected[i]) + " within " + std::to_string(expected.bound[i]);
}

void summarize(std::vector<double> times, OpTime& out) {
  std::sort(times.begin(), times.end());
  const std::size_t n = times.size();
  out.samples = static_cast<std::uint32_t>(n);
  out.min_s = times.front();
  out.max_s = times.back();
  out.median_s = n % 2 == 1 ? times[n / 2] : (times[n / 2 - 1] + times[n / 2]) / 2;
}

Result<AttentionTiles> visited_tiles(const Device& device, const OpCase& c, const std::string& form) {
  Target target = target_of(device);
  target.form = form;
  TSR_TRY(const GraphPlan plan, plan_graph(build(c, whole(c)).program, target));
  const auto* shape = std::get_if<AttentionShape>(&plan.calls.front().shape);
  std::vector<std::uint32_t> lists;
  if (c.block != 0) lists = c.lists(0, (c.rows + c.block - 1) / c.block);
  AttentionTiles tiles;
  for (const Step& step : plan.scheduled.steps) {
    const AttentionTiles of_step = count_tiles(*shape, step.dispatch, lists);
    tiles.computed += of_step.computed;
    tiles.all += of_step.all;
  }
  return tiles;
}

Result<void> check_and_measure(Device& device, const OpCase& c, const OpOptions& options, OpTime& out) {
  TSR_TRY(TimedOp op, TimedOp::create(device, c, options.form));
  if (c.kind == OpKind::attention) {
    TSR_TRY(out.tiles, visited_tiles(device, c, options.form));
  }
  TSR_CHECK(op.seconds());
  TSR_CHECK(op.check(out));
  if (out.wrong) return {};
  ReadyOp ready[] = {{std::move(op), out}};
  TSR_CHECK(measure(ready, options));
  out = ready[0].time;
  return {};
}

}  // namespace

Result<TimedOp> TimedOp::create(Device& device, const OpCase& c, const std::string& form) {
  TimedOp out(c);
  out.gpu_clock_ = has_gpu_clock(device);
  GpuWalkerOptions options;
  options.slice_budget_us = kOneSlice;
  options.form = form;
  TSR_TRY(out.walker_, GpuWalker::create(device, out.op_.program, options));
  TSR_CHECK(give(*out.walker_, out.op_));
  return out;
}

Result<double> TimedOp::seconds() {
  TSR_CHECK(walker_->write(op_.state.value, 0, op_.state.bytes));
  const auto start = Clock::now();
  TSR_CHECK(walker_->run(0));
  if (gpu_clock_) return walker_->gpu_seconds(0);
  return since(start);
}

Result<void> TimedOp::check(OpTime& out) {
  OpCase built_in = case_;  // the reference runs no GLSL
  built_in.user = nullptr;
  for (const Window& w : samples(case_)) {
    const OneOp part = build(built_in, w);
    TSR_TRY(auto reference, ReferenceWalker::create(part.program));
    TSR_CHECK(give(*reference, part));
    TSR_TRY(const std::vector<ReferenceOutput> expected, reference->run_op(0, 0, true));
    for (const ReferenceOutput& e : expected) TSR_CHECK(compare(w, part, e, out));
  }
  return {};
}

Result<void> TimedOp::compare(const Window& w, const OneOp& part, const ReferenceOutput& expected,
                              OpTime& out) {
  const Value& value = op_.program->values[expected.value];  // numbered alike in both programs
  // Tokens, states.
  const bool same = value.storage == Storage::input || value.shape.size() > 2;
  const std::uint64_t columns = value.last_dim();
  const std::uint64_t part_columns = part.program->values[expected.value].last_dim();
  const std::uint64_t first = same ? 0 : w.row, rows = same ? value.elems() / columns : w.rows;
  const std::uint64_t size = info(value.dtype).block_bytes;
  std::vector<std::byte> bytes(rows * columns * size);
  TSR_CHECK(walker_->read(expected.value, first * columns * size, bytes));
  for (std::size_t i = 0; i < expected.expected.size(); ++i) {
    const std::uint64_t e = expected.element(i);
    const std::uint64_t at = same ? e : e / part_columns * columns + w.column + e % part_columns;
    judge(expected, i, element_at(value.dtype, bytes, at), same ? e : at + first * columns, out);
  }
  return {};
}

Result<void> measure(std::span<ReadyOp> ops, const OpOptions& options) {
  if (ops.empty()) return {};
  const auto start = Clock::now();
  for (std::uint32_t i = 0; i < kWarmUps || since(start) < kWarmUpSeconds; ++i)
    for (ReadyOp& ready : ops) TSR_CHECK(ready.op.seconds());
  std::vector<std::vector<double>> times(ops.size());
  double longest = 0;  // of the sums of their times
  for (std::uint32_t n = 0; n < options.samples && (n < kLeastSamples || longest < options.seconds); ++n)
    for (std::size_t i = 0; i < ops.size(); ++i) {
      TSR_TRY(const double seconds, ops[i].op.seconds());
      times[i].push_back(seconds);
      longest = std::max(longest, std::accumulate(times[i].begin(), times[i].end(), 0.0));
    }
  for (std::size_t i = 0; i < ops.size(); ++i) summarize(std::move(times[i]), ops[i].time);
  return {};
}

Result<OpTime> time_op(Device& device, const OpCase& c, const OpOptions& options) {
  OpTime out;
  const Result<void> done = check_and_measure(device, c, options, out);
  if (done.ok()) return out;
  if (done.error().code == Code::device_lost) return done.error();
  out.failed = done.error().message;
  return out;
}

}  // namespace tessera::bench
