#include "schedule/gpu_walker.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

#include "graph/state.h"
#include "interface/state.h"
#include "kernels/layout.h"
#include "kernels/target.h"

namespace tessera {
namespace {

// The words that shaders read by number are these members.
#define TSR_SAME_WORD(Struct, member, word) static_assert(offsetof(Struct, member) == 4 * shader::word)
TSR_SAME_WORD(StepState, position, kStatePosition);
TSR_SAME_WORD(StepState, rows, kStateRows);
TSR_SAME_WORD(StepState, status, kStateStatus);
TSR_SAME_WORD(StepState, token, kStateToken);
TSR_SAME_WORD(SamplerParams, temperature, kSamplerTemperature);
TSR_SAME_WORD(SamplerParams, top_k, kSamplerTopK);
TSR_SAME_WORD(SamplerParams, top_p, kSamplerTopP);
TSR_SAME_WORD(SamplerParams, min_p, kSamplerMinP);
TSR_SAME_WORD(SamplerParams, penalty, kSamplerPenalty);
TSR_SAME_WORD(SamplerParams, penalty_last, kSamplerPenaltyLast);
TSR_SAME_WORD(SamplerParams, seed_low, kSamplerSeedLow);
TSR_SAME_WORD(SamplerParams, seed_high, kSamplerSeedHigh);
#undef TSR_SAME_WORD
#define TSR_SAME_NUMBER(a, b) static_assert(static_cast<std::uint32_t>(a) == shader::b)
TSR_SAME_NUMBER(DType::f32, kTypeF32);
TSR_SAME_NUMBER(DType::f16, kTypeF16);
TSR_SAME_NUMBER(DType::bf16, kTypeBf16);
TSR_SAME_NUMBER(DType::q8_0, kTypeQ8_0);
TSR_SAME_NUMBER(DType::q4_0, kTypeQ4_0);
TSR_SAME_NUMBER(DType::q4_1, kTypeQ4_1);
TSR_SAME_NUMBER(DType::q5_0, kTypeQ5_0);
TSR_SAME_NUMBER(DType::q5_1, kTypeQ5_1);
TSR_SAME_NUMBER(DType::q4_k, kTypeQ4_K);
TSR_SAME_NUMBER(DType::q5_k, kTypeQ5_K);
TSR_SAME_NUMBER(DType::q6_k, kTypeQ6_K);
TSR_SAME_NUMBER(Activation::none, kActNone);
TSR_SAME_NUMBER(Activation::silu, kActSilu);
TSR_SAME_NUMBER(Activation::gelu_tanh, kActGeluTanh);
TSR_SAME_NUMBER(Activation::gelu_erf, kActGeluErf);
TSR_SAME_NUMBER(Activation::relu, kActRelu);
TSR_SAME_NUMBER(Activation::relu2, kActRelu2);
TSR_SAME_NUMBER(Activation::sigmoid, kActSigmoid);
#undef TSR_SAME_NUMBER
static_assert(sizeof(StepState) == 4 * shader::kStateWords &&
              sizeof(SamplerParams) == 4 * shader::kSamplerWords);
static_assert(kStatusOk == shader::kStatusWordOk && kStatusNaN == shader::kStatusWordNaN);

constexpr std::uint64_t kWaitStepNs = 1'000'000'000;
constexpr std::uint64_t kUploadBytes = 16u << 20;  // staging of one upload
constexpr int kCalibrationRuns = 2;                // of each graph; the first one warms up

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct RecordedSlice {
  Slice slice;
  std::unique_ptr<CommandList> commands;
};

// A pipeline to be made by a job.
struct PipelineRequest {
  PipelineDesc desc;
  std::shared_ptr<Pipeline> pipeline;  // set when made
};

struct LoadedGraph {
  ScheduledGraph scheduled;
  std::vector<std::shared_ptr<Pipeline>> pipelines;  // by step
  std::vector<std::unique_ptr<BindingSet>> sets;     // by step
  std::vector<RecordedSlice> slices;
  bool timed = false;  // the slices have run: their timestamps are those of the last run
  int runs = 0;
  double seconds = 0;  // of that run
};

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
    if (submitted_ != 0) (void)wait(submitted_);  // nothing may be in use
  }

  Result<void> load() {
    TSR_CHECK(program_->check());
    TSR_TRY(map_, map_memory(*program_, target_.limits));
    for (const Graph& graph : program_->graphs) {
      LoadedGraph loaded;
      TSR_TRY(loaded.scheduled, schedule(*program_, graph, map_, target_, options_.alias));
      if (options_.edit_schedule) options_.edit_schedule(graph, loaded.scheduled);
      map_.buffers[kArena].bytes = std::max(map_.buffers[kArena].bytes, loaded.scheduled.plan.arena_bytes);
      map_.buffers[kDummy].bytes = std::max(map_.buffers[kDummy].bytes, loaded.scheduled.dummy_bytes);
      place_params(loaded.scheduled);
      graphs_.push_back(std::move(loaded));
    }
    TSR_CHECK(create_buffers());
    TSR_CHECK(make_pipelines());
    TSR_CHECK(upload_weights());
    if (!params_.empty())
      TSR_CHECK(
          device_.upload(*buffers_[kParams], 0, std::as_bytes(std::span<const std::uint32_t>(params_))));
    for (LoadedGraph& graph : graphs_) {
      TSR_CHECK(bind(graph));
      estimate(rates_, graph.scheduled.steps);
      TSR_CHECK(record(graph));
    }
    return {};
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
    for (const Placement& p : graphs_[graph].scheduled.plan.placements)
      if (p.value == value && out.size() <= p.bytes) return read_range(kArena, p.offset, out);
    return read(value, 0, out);
  }

  Result<void> run(std::uint32_t index) override {
    TSR_CHECK(require_graph(index));
    LoadedGraph& graph = graphs_[index];
    std::vector<const CommandList*> lists;
    for (const RecordedSlice& s : graph.slices) lists.push_back(s.commands.get());
    TSR_CHECK(submit_and_wait(lists));
    graph.timed = true;
    if (graph.runs < kCalibrationRuns && ++graph.runs == kCalibrationRuns) return calibrate(graph);
    return {};
  }

  Result<void> run_op(std::uint32_t index, std::uint32_t op) override {
    TSR_CHECK(require_graph(index));
    LoadedGraph& graph = graphs_[index];
    const Graph& ops = program_->graphs[index];
    if (op >= ops.ops.size())
      return Error{Code::invalid_argument, "graph '" + ops.name + "' has no op " + std::to_string(op)};
    TSR_TRY(auto commands, device_.create_command_list(0));
    commands->barrier();
    for (std::size_t i = 0; i < graph.scheduled.steps.size(); ++i) {
      const Step& step = graph.scheduled.steps[i];
      if (step.op == op)
        dispatch(*commands, graph,
                 {.step = static_cast<std::uint32_t>(i),
                  .count = step.dispatch.grid,
                  .barrier_before = step.barrier_before});
    }
    commands->barrier_to_host();
    TSR_CHECK(commands->finish());
    const CommandList* list = commands.get();
    return submit_and_wait({&list, 1});
  }

  Result<double> gpu_seconds(std::uint32_t index) override {
    TSR_CHECK(require_graph(index));
    if (!graphs_[index].timed && graphs_[index].seconds > 0) return graphs_[index].seconds;
    if (!graphs_[index].timed) return Error{Code::unsupported, "the graph has not been run"};
    double sum = 0;
    for (const RecordedSlice& s : graphs_[index].slices) {
      TSR_TRY(const std::vector<double> ns, s.commands->timestamps());
      if (ns.size() < 2) return Error{Code::internal, "a slice has no two timestamps"};
      sum += ns[1] * 1e-9;
    }
    return sum;
  }

  WalkerStats stats() const override { return stats_; }

  std::string print_schedule() const override {
    std::string text;
    for (std::size_t g = 0; g < graphs_.size(); ++g) {
      text += print(*program_, program_->graphs[g], map_, graphs_[g].scheduled);
      for (const RecordedSlice& s : graphs_[g].slices)
        text += "  slice: " + std::to_string(s.slice.pieces.size()) + " dispatches, about " +
                std::to_string(static_cast<int>(s.slice.cost_us)) + " us\n";
    }
    return text;
  }

 private:
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
      TSR_TRY(auto buffer,
              device_.create_buffer(std::max<std::uint64_t>(spec.bytes, 4), spec.memory, spec.name));
      if (spec.memory == Memory::shared) std::memset(buffer->mapped().data(), 0, buffer->mapped().size());
      buffers_.push_back(std::move(buffer));
    }
    if (!options_.alias) TSR_CHECK(poison());
    stats_.arena_bytes = map_.buffers[kArena].bytes;
    for (ValueId id = 0; id < map_.places.size(); ++id) {
      const Storage storage = program_->values[id].storage;
      if (storage == Storage::weight || storage == Storage::constant)
        stats_.weight_bytes += map_.places[id].bytes;
      if (storage == Storage::cache) stats_.cache_bytes += map_.places[id].bytes;
    }
    return {};
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
    return wait(submitted_);
  }

  // The distinct pipelines of all graphs, each one job.
  Result<void> make_pipelines() {
    const auto start = std::chrono::steady_clock::now();
    std::vector<PipelineRequest> requests;
    std::vector<std::vector<std::size_t>> of_step(graphs_.size());
    for (std::size_t g = 0; g < graphs_.size(); ++g)
      for (const Step& step : graphs_[g].scheduled.steps) {
        const PipelineDesc desc = pipeline_desc(step.dispatch);
        const auto same = std::find_if(requests.begin(), requests.end(),
                                       [&](const PipelineRequest& r) { return r.desc == desc; });
        of_step[g].push_back(static_cast<std::size_t>(same - requests.begin()));
        if (same == requests.end()) requests.push_back({desc, nullptr});
      }
    TSR_CHECK(run_pipeline_jobs(requests));
    for (std::size_t g = 0; g < graphs_.size(); ++g)
      for (std::size_t r : of_step[g]) graphs_[g].pipelines.push_back(requests[r].pipeline);
    stats_.pipelines = static_cast<std::uint32_t>(requests.size());
    stats_.pipeline_seconds = seconds_since(start);
    return {};
  }

  // On a thread of the host's, through which nothing may be thrown.
  Result<std::shared_ptr<Pipeline>> create_pipeline(const PipelineDesc& desc) {
    try {
      return device_.create_pipeline(desc);
    } catch (const std::bad_alloc&) {
      return Error{Code::out_of_memory, {}};
    }
  }

  Result<void> run_pipeline_jobs(std::vector<PipelineRequest>& requests) {
    std::mutex mutex;  // of `failed`, `done` and the progress callback
    Error failed{Code::ok, {}};
    std::uint64_t done = 0;
    const auto job = [&](std::uint32_t i) {
      {
        const std::lock_guard lock(mutex);
        if (failed.code == Code::ok && !report(options_.progress, "pipelines", done, requests.size()))
          failed = {Code::cancelled, "cancelled while making pipelines"};
        if (failed.code != Code::ok) return;
      }
      auto made = create_pipeline(requests[i].desc);
      const std::lock_guard lock(mutex);
      ++done;
      if (made)
        requests[i].pipeline = *std::move(made);
      else if (failed.code == Code::ok)
        failed = made.error();
    };
    const auto count = static_cast<std::uint32_t>(requests.size());
    if (options_.run_jobs)
      options_.run_jobs(count, job);
    else
      for (std::uint32_t i = 0; i < count; ++i) job(i);
    if (failed.code != Code::ok) return failed;
    for (const PipelineRequest& r : requests)
      if (!r.pipeline)
        return Error{Code::internal, "pipeline '" + r.desc.name + "' was not made: run_jobs skipped it"};
    (void)report(options_.progress, "pipelines", count, count);
    return {};
  }

  // Row by row into the device layout, through staging of kUploadBytes or straight into mapped memory.
  Result<void> upload_weights() {
    std::uint64_t done = 0;
    for (ValueId id = 0; id < map_.places.size(); ++id) {
      const Value& value = program_->values[id];
      const Place& place = map_.places[id];
      if (place.row_bytes == 0) continue;
      const std::uint64_t rows = place.bytes / place.row_bytes;
      const std::uint64_t batch = std::max<std::uint64_t>(1, kUploadBytes / place.row_bytes);
      for (std::uint64_t first = 0; first < rows; first += batch) {
        const std::uint64_t count = std::min(batch, rows - first);
        TSR_TRY(const std::vector<std::byte> bytes, device_rows(id, value, first, count, place.row_bytes));
        TSR_CHECK(device_.upload(*buffers_[place.buffer], place.offset + first * place.row_bytes, bytes));
        done += bytes.size();
        if (!report(options_.progress, "weights", done, stats_.weight_bytes))
          return Error{Code::cancelled, "cancelled while loading weights"};
      }
    }
    return {};
  }

  Result<std::vector<std::byte>> device_rows(ValueId id, const Value& value, std::uint64_t first,
                                             std::uint64_t count, std::uint64_t row_bytes) const {
    std::vector<std::byte> out(count * row_bytes);
    if (value.storage == Storage::constant) {
      std::memcpy(out.data(), value.data->data() + first * value.last_dim(), out.size());
      return out;
    }
    const std::uint64_t file_row = file_bytes(value.last_dim(), info(value.dtype));
    std::vector<std::byte> file(count * file_row);
    TSR_CHECK(read_rows(*program_, id, first, file));
    for (std::uint64_t r = 0; r < count; ++r)
      repack_row(value.dtype, value.last_dim(), std::span(file).subspan(r * file_row, file_row),
                 std::span(out).subspan(r * row_bytes, row_bytes));
    return out;
  }

  Result<void> bind(LoadedGraph& graph) {
    for (std::size_t i = 0; i < graph.scheduled.steps.size(); ++i) {
      std::vector<BindingRange> ranges;
      for (const Range& r : graph.scheduled.steps[i].ranges)
        ranges.push_back({buffers_[r.buffer].get(), r.offset, r.bytes});
      TSR_TRY(auto set, device_.create_binding_set(*graph.pipelines[i], ranges));
      graph.sets.push_back(std::move(set));
    }
    return {};
  }

  void dispatch(CommandList& commands, const LoadedGraph& graph, const Piece& piece) const {
    if (piece.barrier_before) commands.barrier();
    commands.dispatch(*graph.pipelines[piece.step], *graph.sets[piece.step],
                      graph.scheduled.steps[piece.step].dispatch.push, piece.base, piece.count);
  }

  // All or nothing: on failure the graph keeps the lists it had.
  Result<void> record(LoadedGraph& graph) {
    std::vector<RecordedSlice> recorded;
    std::vector<Slice> slices = cut_slices(graph.scheduled.steps, options_.slice_budget_us);
    for (std::size_t s = 0; s < slices.size(); ++s) {
      TSR_TRY(auto commands, device_.create_command_list(2));
      commands->timestamp(0);
      for (const Piece& piece : slices[s].pieces) dispatch(*commands, graph, piece);
      commands->timestamp(1);
      if (s + 1 == slices.size()) commands->barrier_to_host();
      TSR_CHECK(commands->finish());
      ++stats_.records;
      recorded.push_back({std::move(slices[s]), std::move(commands)});
    }
    graph.slices = std::move(recorded);
    graph.timed = false;
    return {};
  }

  // Lists are recorded again only if a slice is far over its budget.
  Result<void> calibrate(LoadedGraph& graph) {
    if (target_.limits.timestamp_ns == 0) return {};  // no timestamps on this queue
    double worst_us = 0, sum_us = 0;
    std::vector<double> measured_us(graph.scheduled.steps.size(), 0);
    for (const RecordedSlice& s : graph.slices) {
      TSR_TRY(const std::vector<double> ns, s.commands->timestamps());
      if (ns.size() < 2 || ns[1] <= 0) return {};
      const double us = ns[1] / 1000;
      worst_us = std::max(worst_us, us);
      sum_us += us;
      for (const Piece& piece : s.slice.pieces)
        measured_us[piece.step] += piece.cost_us * us / s.slice.cost_us;
    }
    if (worst_us <= 1.5 * options_.slice_budget_us) return {};
    // What was measured may have had few rows: it only raises an estimate, which is for all of them.
    for (std::size_t i = 0; i < measured_us.size(); ++i) {
      double& cost_us = graph.scheduled.steps[i].cost_us;
      cost_us = std::max(cost_us, measured_us[i]);
    }
    TSR_CHECK(record(graph));
    graph.seconds = sum_us / 1e6;
    return {};
  }

  Result<void> submit_and_wait(std::span<const CommandList* const> lists) {
    TSR_TRY(submitted_, device_.submit(lists));
    ++stats_.submits;
    return wait(submitted_);
  }

  // As long as it takes: a large model on a software device is slow, and a hung GPU is lost by its driver.
  Result<void> wait(std::uint64_t value) {
    for (;;) {
      TSR_TRY(const bool done, device_.wait(value, kWaitStepNs));
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
  std::vector<LoadedGraph> graphs_;
  WalkerStats stats_;
  std::uint64_t submitted_ = 0;
};

}  // namespace

Result<std::unique_ptr<GpuWalker>> GpuWalker::create(Device& device, std::shared_ptr<const Program> program,
                                                     GpuWalkerOptions options) {
  auto walker = std::make_unique<Walking>(device, std::move(program), std::move(options));
  TSR_CHECK(walker->load());
  return std::unique_ptr<GpuWalker>(std::move(walker));
}

}  // namespace tessera
