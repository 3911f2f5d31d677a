#include "schedule/gpu_walker.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>

#include "kernels/target.h"
#include "schedule/recorded_graph.h"
#include "schedule/weight_stream.h"

namespace tessera {
namespace {

constexpr std::uint64_t kWaitStepNs = 1'000'000'000;
constexpr std::uint32_t kWarmRuns =
    2;                                // of each graph, before its times are believed: the first one warms up
constexpr double kLeastSliceUs = 50;  // a budget cuts no finer; what a submission costs is not far from it
constexpr double kMostSlices = 512;   // of a graph, unless kSliceBudgetUs wants more

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class Walking final : public GpuWalker {
 public:
  Walking(Device& device, std::shared_ptr<const Program> program, GpuWalkerOptions options)
      : device_(device),
        program_(std::move(program)),
        options_(std::move(options)),
        target_(target_of(device)),
        rates_(guess_rates(device.report().type)) {
    target_.form = options_.form;
  }

  ~Walking() override {
    device_.drain(submitted_);  // nothing may be in use
  }

  Result<void> plan() {
    TSR_CHECK(program_->check());
    TSR_TRY(map_, map_memory(*program_, target_.limits));
    for (const Graph& graph : program_->graphs) {
      TSR_TRY(ScheduledGraph scheduled, schedule(*program_, graph, map_, target_, options_.alias));
      if (options_.edit_schedule) options_.edit_schedule(graph, scheduled);
      map_.buffers[kArena].bytes = std::max(map_.buffers[kArena].bytes, scheduled.plan.arena_bytes);
      map_.buffers[kDummy].bytes = std::max(map_.buffers[kDummy].bytes, scheduled.dummy_bytes);
      place_params(scheduled);
      graphs_.emplace_back(std::move(scheduled), graph.max_rows);
    }
    weights_.emplace(device_, *program_, map_);
    TSR_CHECK(create_buffers());
    TSR_CHECK(make_all_pipelines());
    if (!params_.empty())
      TSR_CHECK(
          device_.upload(*buffers_[kParams], 0, std::as_bytes(std::span<const std::uint32_t>(params_))));
    for (RecordedGraph& graph : graphs_) estimate(rates_, graph.scheduled().steps);
    TSR_CHECK(bind_and_record());
    return options_.stream ? Result<void>() : load(0);
  }

  const Program& program() const override { return *program_; }

  Result<void> write(ValueId value, std::uint64_t offset, std::span<const std::byte> bytes) override {
    TSR_TRY(const Place place, place_of(value, offset, bytes.size()));
    Buffer& buffer = *buffers_[place.buffer];
    if (!buffer.mapped().empty()) {
      std::memcpy(buffer.mapped().data() + place.offset + offset, bytes.data(), bytes.size());
      return {};
    }
    return device_.upload(buffer, place.offset + offset, bytes);
  }

  Result<void> read(ValueId value, std::uint64_t offset, std::span<std::byte> bytes) override {
    TSR_TRY(const Place place, place_of(value, offset, bytes.size()));
    return read_range(place.buffer, place.offset + offset, bytes);
  }

  Result<void> read_activation(std::uint32_t graph, ValueId value, std::span<std::byte> out) override {
    TSR_CHECK(require_graph(graph));
    for (const Placement& p : graphs_[graph].scheduled().plan.placements)
      if (p.value == value && out.size() <= p.bytes) return read_range(kArena, p.offset, out);
    return read(value, 0, out);
  }

  Result<void> run(std::uint32_t index) override {
    TSR_CHECK(require_graph(index));
    const SliceRun all{.graph = index, .count = graphs_[index].slices()};
    TSR_TRY(const std::uint64_t value, submit({&all, 1}, Measure::none));
    TSR_CHECK(wait_for(value));
    return tune(index, 0);
  }

  Loading loading() const override { return {weights_->done(), weights_->total()}; }

  Result<void> load(std::uint64_t bytes) override {
    if (released_) {
      auto back = bring_back();
      if (!back.ok()) drop_weight_buffers();
      TSR_CHECK(back);
      released_ = false;
    }
    return bytes != 0 ? weights_->more(buffers_, bytes) : weights_->all(buffers_, options_.progress);
  }

  Result<void> release_weights() override {
    if (submitted_ != 0) TSR_CHECK(wait_for(submitted_));
    weights_.emplace(device_, *program_, map_);
    drop_weight_buffers();
    released_ = true;
    return {};
  }

  std::uint32_t slices(std::uint32_t graph) const override { return graphs_[graph].slices(); }
  SlicePrediction predict(const SliceRun& run) const override { return graphs_[run.graph].predict(run); }

  Result<std::uint64_t> submit(std::span<const SliceRun> runs, bool measure) override {
    return submit(runs, measure ? Measure::cost : Measure::none);
  }

  Result<bool> wait(std::uint64_t value, std::uint64_t timeout_ns) override {
    TSR_TRY(const bool done, device_.wait(value, timeout_ns));
    if (!done) return false;
    for (RecordedGraph& graph : graphs_) TSR_CHECK(graph.read_times(value));
    return true;
  }

  bool wants_tuning(std::uint32_t index, double most_us) const override {
    const RecordedGraph& graph = graphs_[index];
    return graph.runs() >= kWarmRuns && (graph.too_coarse(slice_us(graph, most_us)) || graph.too_fine());
  }

  Result<void> tune(std::uint32_t index, double most_us) override {
    if (!wants_tuning(index, most_us)) return {};
    RecordedGraph& graph = graphs_[index];
    TSR_TRY(const bool other, graph.refine(device_, slice_us(graph, most_us)));
    if (other) stats_.records += graph.slices();
    return {};
  }

  Result<void> run_op(std::uint32_t index, std::uint32_t op) override {
    TSR_CHECK(require_graph(index));
    RecordedGraph& graph = graphs_[index];
    const std::vector<Step>& steps = graph.scheduled().steps;
    const Graph& ops = program_->graphs[index];
    if (op >= ops.ops.size())
      return Error{Code::invalid_argument, "graph '" + ops.name + "' has no op " + std::to_string(op)};
    TSR_TRY(auto commands, device_.create_command_list(0));
    commands->barrier();
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const Step& step = steps[i];
      if (step.op == op)
        record_piece(*commands, steps, graph.bound(),
                     {.step = static_cast<std::uint32_t>(i),
                      .count = step.dispatch.grid,
                      .barrier_before = step.barrier_before});
    }
    commands->barrier_to_host();
    TSR_CHECK(commands->finish());
    const CommandList* list = commands.get();
    TSR_TRY(submitted_, device_.submit({&list, 1}));
    ++stats_.submits;
    return wait_for(submitted_);
  }

  Result<double> gpu_seconds(std::uint32_t index) override {
    TSR_CHECK(require_graph(index));
    return graphs_[index].seconds();
  }

  WalkerStats stats() const override { return stats_; }

  std::string print_schedule() const override {
    std::string text;
    for (std::size_t g = 0; g < graphs_.size(); ++g) {
      text += print(*program_, program_->graphs[g], map_, graphs_[g].scheduled());
      for (std::uint32_t i = 0; i < graphs_[g].slices(); ++i) {
        const Slice& slice = graphs_[g].slice(i);
        text += "  slice: " + std::to_string(slice.pieces.size()) + " dispatches, about " +
                std::to_string(static_cast<int>(slice.cost_us)) + " us\n";
      }
    }
    return text;
  }

 private:
  using Measure = RecordedGraph::Measure;

  Result<void> require_graph(std::uint32_t index) const {
    if (index < graphs_.size()) return {};
    return Error{Code::invalid_argument, "the program has no graph " + std::to_string(index)};
  }

  Result<Place> place_of(ValueId value, std::uint64_t offset, std::uint64_t bytes) const {
    if (value >= map_.places.size())
      return Error{Code::invalid_argument, "the program has no value " + std::to_string(value)};
    const Place& place = map_.places[value];
    const Storage storage = program_->values[value].storage;
    if (place.bytes == 0 || storage == Storage::weight || storage == Storage::constant)
      return Error{Code::internal,
                   "'" + program_->values[value].name + "' cannot be read or written between passes"};
    if (offset > place.bytes || bytes > place.bytes - offset)
      return Error{Code::internal, "access past the end of '" + program_->values[value].name + "'"};
    return place;
  }

  Result<void> read_range(BufferId id, std::uint64_t offset, std::span<std::byte> out) {
    Buffer& buffer = *buffers_[id];
    if (program_storage_is_shared(id)) {
      std::memcpy(out.data(), buffer.mapped().data() + offset, out.size());
      return {};
    }
    return device_.download(buffer, offset, out);
  }
  bool program_storage_is_shared(BufferId id) const { return map_.buffers[id].memory == Memory::shared; }

  Result<void> create_buffers() {
    for (BufferSpec& spec : map_.buffers) {
      TSR_TRY(auto buffer, device_.create_buffer(std::max<std::uint64_t>(spec.bytes, 4), spec.memory,
                                                 spec.name, spec.lanes));
      if (spec.memory == Memory::shared) std::memset(buffer->mapped().data(), 0, buffer->mapped().size());
      buffers_.push_back(std::move(buffer));
    }
    if (!options_.alias) TSR_CHECK(poison());
    stats_.arena_bytes = map_.buffers[kArena].bytes;
    for (ValueId id = 0; id < map_.places.size(); ++id) {
      const Storage storage = program_->values[id].storage;
      if (storage == Storage::weight || storage == Storage::constant) add_weight(map_.places[id]);
      if (storage == Storage::cache) stats_.cache_bytes += map_.places[id].bytes;
    }
    return {};
  }

  void add_weight(const Place& place) {
    stats_.weight_bytes += place.bytes;
    if (place.bytes != 0 && std::ranges::find(weight_buffers_, place.buffer) == weight_buffers_.end())
      weight_buffers_.push_back(place.buffer);
  }

  // The parameters of all graphs lie one after the other.
  void place_params(ScheduledGraph& scheduled) {
    const std::uint64_t base = round_up(params_.size() * 4, target_.limits.min_storage_alignment);
    params_.resize(base / 4);
    params_.insert(params_.end(), scheduled.params.begin(), scheduled.params.end());
    for (Step& step : scheduled.steps)
      for (Range& range : step.ranges)
        if (range.buffer == kParams) range.offset += base;
    map_.buffers[kParams].bytes = params_.size() * 4;
  }

  // Verification: what no kernel has written is NaN (in f32 and in f16), not what lay there before.
  Result<void> poison() {
    TSR_TRY(auto commands, device_.create_command_list(0));
    commands->barrier();
    for (std::size_t id = 0; id < buffers_.size(); ++id)
      if (!program_storage_is_shared(static_cast<BufferId>(id)))
        commands->fill(*buffers_[id], 0, buffers_[id]->size() / 4 * 4, 0x7fff7fffu);
    TSR_CHECK(commands->finish());
    const CommandList* list = commands.get();
    TSR_TRY(submitted_, device_.submit({&list, 1}));
    return wait_for(submitted_);
  }

  Result<void> make_all_pipelines() {
    const auto start = std::chrono::steady_clock::now();
    std::vector<const std::vector<Step>*> lists;
    for (const RecordedGraph& graph : graphs_) lists.push_back(&graph.scheduled().steps);
    TSR_TRY(StepPipelines made, make_pipelines(device_, lists, options_.run_jobs, options_.progress));
    for (std::size_t g = 0; g < graphs_.size(); ++g) graphs_[g].bound().pipelines = std::move(made.of[g]);
    stats_.pipelines = made.distinct;
    stats_.pipeline_seconds = seconds_since(start);
    return {};
  }

  void drop_weight_buffers() {
    for (const BufferId id : weight_buffers_) buffers_[id].reset();
  }

  // What was released, and the slices that are there over it: a pass may be under way.
  Result<void> bring_back() {
    for (const BufferId id : weight_buffers_) {
      const BufferSpec& spec = map_.buffers[id];
      TSR_TRY(buffers_[id], device_.create_buffer(spec.bytes, spec.memory, spec.name, spec.lanes));
    }
    return bind_and_record();
  }

  Result<void> bind_and_record() {
    for (RecordedGraph& graph : graphs_) {
      TSR_CHECK(bind_steps(device_, graph.scheduled().steps, buffers_, graph.bound()));
      TSR_CHECK(graph.slices() == 0 ? graph.record(device_, options_.slice_budget_us)
                                    : graph.record_again(device_));
      stats_.records += graph.slices();
    }
    return {};
  }

  // Half of what a slice may take, so that several fill a budget; not finer than pays.
  double slice_us(const RecordedGraph& graph, double most_us) const {
    if (most_us <= 0) return options_.slice_budget_us;
    const double fine = std::max({most_us / 2, kLeastSliceUs, graph.cost_us() / kMostSlices});
    return std::min(options_.slice_budget_us, fine);
  }

  Result<std::uint64_t> submit(std::span<const SliceRun> runs, Measure measure) {
    if (!loading().ready()) return Error{Code::internal, "not all weights are on the device"};
    lists_.clear();
    for (const SliceRun& run : runs) {
      TSR_CHECK(require_graph(run.graph));
      const RecordedGraph& graph = graphs_[run.graph];
      if (run.first > graph.slices() || run.count > graph.slices() - run.first)
        return Error{Code::internal, "graph '" + program_->graphs[run.graph].name + "' has " +
                                         std::to_string(graph.slices()) + " slices"};
      for (std::uint32_t i = 0; i < run.count; ++i) lists_.push_back(graph.commands(run.first + i));
    }
    TSR_TRY(submitted_, device_.submit(lists_, Lane::compute, weights_->after()));
    weights_->awaited();
    ++stats_.submits;
    const bool clock = target_.limits.timestamp_ns > 0;
    for (const SliceRun& run : runs) {
      RecordedGraph& graph = graphs_[run.graph];
      const bool warm = graph.runs() < kWarmRuns;
      graph.submitted(run, submitted_,
                      !clock                             ? Measure::none
                      : measure == Measure::none && warm ? Measure::time
                                                         : measure);
    }
    return submitted_;
  }

  // As long as it takes: a large model on a software device is slow, and a hung GPU is lost by its driver.
  Result<void> wait_for(std::uint64_t value) {
    for (;;) {
      TSR_TRY(const bool done, wait(value, kWaitStepNs));
      if (done) return {};
    }
  }

  Device& device_;
  std::shared_ptr<const Program> program_;
  GpuWalkerOptions options_;
  Target target_;
  Rates rates_;
  MemoryMap map_;
  std::vector<std::uint32_t> params_;  // content of kParams
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::optional<WeightStream> weights_;
  std::vector<BufferId> weight_buffers_;
  bool released_ = false;  // those are not there
  std::vector<RecordedGraph> graphs_;
  std::vector<const CommandList*> lists_;  // of the submission in the making
  WalkerStats stats_;
  std::uint64_t submitted_ = 0;
};

}  // namespace

Result<std::unique_ptr<GpuWalker>> GpuWalker::create(Device& device, std::shared_ptr<const Program> program,
                                                     GpuWalkerOptions options) {
  auto walker = std::make_unique<Walking>(device, std::move(program), std::move(options));
  TSR_CHECK(walker->plan());
  return std::unique_ptr<GpuWalker>(std::move(walker));
}

}  // namespace tessera
