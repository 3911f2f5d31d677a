// How fast each kernel is on the best device: time by GPU timestamps, GFLOP/s and GB/s from the dispatch's
// own arithmetic and compulsory traffic. --benchmark_repetitions=5 gives the median and the spread.
// TESSERA_BENCH_DEVICE: an index or part of a name. Values are small random numbers; results are not checked
// here, the tests do that.

#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>

#include "device/device.h"
#include "interface/state.h"
#include "kernels/choose.h"
#include "kernels/layout.h"

namespace tessera {
namespace {

struct Operand {
  std::uint64_t bytes = 0;
  std::vector<std::uint32_t> words = {};  // empty: random
};

// A kernel's dispatches over its buffers, recorded once with timestamps around.
class Bench {
 public:
  static Result<Bench> create(Device& device, const std::vector<Dispatch>& dispatches,
                              const std::vector<std::vector<std::size_t>>& bindings,
                              const std::vector<Operand>& operands) {
    Bench bench(device);
    for (const Operand& operand : operands) {
      TSR_TRY(auto buffer, device.create_buffer(operand.bytes, Memory::device, "bench"));
      TSR_CHECK(device.upload(*buffer, 0, content(operand)));
      bench.buffers_.push_back(std::move(buffer));
    }
    TSR_TRY(bench.commands_, device.create_command_list(2));
    bench.commands_->barrier();
    bench.commands_->timestamp(0);
    for (std::size_t i = 0; i < dispatches.size(); ++i) {
      if (i != 0) bench.commands_->barrier();
      TSR_CHECK(bench.record(dispatches[i], bindings[i], operands));
    }
    bench.commands_->timestamp(1);
    TSR_CHECK(bench.commands_->finish());
    return bench;
  }

  Result<double> seconds() {
    const CommandList* list = commands_.get();
    TSR_TRY(const std::uint64_t value, device_->submit({&list, 1}));
    TSR_TRY(const bool done, device_->wait(value, 60'000'000'000));
    if (!done) return Error{Code::device_lost, "a dispatch did not end within a minute"};
    TSR_TRY(const std::vector<double> ns, commands_->timestamps());
    if (ns.size() < 2) return Error{Code::unsupported, "the device has no timestamps"};
    return ns[1] * 1e-9;
  }
  double flops() const { return flops_; }
  double bytes() const { return bytes_; }

 private:
  explicit Bench(Device& device) : device_(&device) {}

  static std::vector<std::byte> content(const Operand& operand) {
    std::vector<std::byte> out(operand.bytes);
    if (!operand.words.empty()) {
      std::memcpy(out.data(), operand.words.data(),
                  std::min<std::size_t>(out.size(), operand.words.size() * 4));
      return out;
    }
    // Halves and floats of about 0.01 to 0.1 whatever the type: no denormals, no overflow.
    std::minstd_rand random(1);
    for (std::size_t i = 0; i + 1 < out.size(); i += 2) {
      out[i] = static_cast<std::byte>(random() >> 8);
      out[i + 1] = static_cast<std::byte>(0x28 + random() % 4);
    }
    return out;
  }

  Result<void> record(const Dispatch& dispatch, const std::vector<std::size_t>& bindings,
                      const std::vector<Operand>& operands) {
    const Kernel& k = kernel(dispatch.kernel);
    PipelineDesc desc{.name = std::string(k.name),
                      .spirv = k.spirv,
                      .binding_count = k.binding_count,
                      .push_bytes = k.push_bytes,
                      .spec = dispatch.spec,
                      .required_subgroup_size = dispatch.subgroup_size};
    TSR_TRY(auto pipeline, device_->create_pipeline(desc));
    std::vector<BindingRange> ranges;
    for (std::size_t b : bindings) ranges.push_back({buffers_[b].get(), 0, operands[b].bytes});
    TSR_TRY(auto set, device_->create_binding_set(*pipeline, ranges));
    commands_->dispatch(*pipeline, *set, dispatch.push, {0, 0, 0}, dispatch.grid);
    flops_ += dispatch.flops;
    bytes_ += dispatch.bytes;
    pipelines_.push_back(std::move(pipeline));
    sets_.push_back(std::move(set));
    return {};
  }

  Device* device_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::vector<std::shared_ptr<Pipeline>> pipelines_;
  std::vector<std::unique_ptr<BindingSet>> sets_;
  std::unique_ptr<CommandList> commands_;
  double flops_ = 0, bytes_ = 0;
};

void run(benchmark::State& state, Result<Bench> bench) {
  if (!bench) return state.SkipWithError(bench.error().message.c_str());
  for (auto _ : state) {
    const auto seconds = bench->seconds();
    if (!seconds) return state.SkipWithError(seconds.error().message.c_str());
    state.SetIterationTime(*seconds);
  }
  using Counter = benchmark::Counter;
  state.counters["FLOP/s"] = Counter(bench->flops(), Counter::kIsIterationInvariantRate);
  state.counters["B/s"] = Counter(bench->bytes(), Counter::kIsIterationInvariantRate);
}

Operand state_words(std::uint32_t position, std::uint32_t rows) {
  return {shader::kStateWords * 4, {position, rows, 0, 0, 0, 0, 0, 0}};
}

Result<Bench> matmul(Device& device, const MatmulShape& shape) {
  const Target target{device.report().limits, device.report().caps};
  TSR_TRY(const Dispatch dispatch, choose_matmul(shape, target));
  const std::uint64_t row = device_row_bytes(shape.type, shape.k);
  return Bench::create(device, {dispatch}, {{0, 1, 1, 0, 0, 2, 3}},
                       {{std::uint64_t{shape.rows} * shape.k * 4},
                        {row * shape.n},
                        {std::uint64_t{shape.rows} * shape.y_stride * 4},
                        state_words(0, shape.rows)});
}

void add(const std::string& name, std::function<Result<Bench>()> make) {
  benchmark::RegisterBenchmark(name.c_str(), [make](benchmark::State& state) { run(state, make()); })
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

void add_all(Device& device) {
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0})
    for (const std::uint32_t rows : {1u, 8u, 512u})
      add("matmul/" + std::string(info(type).name) + "/4096x4096x" + std::to_string(rows),
          [&device, type, rows] {
            return matmul(device, {.rows = rows, .n = 4096, .k = 4096, .y_stride = 4096, .type = type});
          });
}

Result<std::unique_ptr<Device>> open_device() {
  TSR_TRY(auto instance, Instance::create({}));
  TSR_TRY(const auto reports, instance->enumerate());
  const char* wanted = std::getenv("TESSERA_BENCH_DEVICE");
  Device::Desc desc;
  TSR_TRY(desc.index, pick_device(reports, wanted == nullptr ? "" : wanted));
  return Device::create(instance, desc);
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  auto device = tessera::open_device();
  if (!device) {
    std::fprintf(stderr, "kernels_bench: %s\n", device.error().message.c_str());
    return 1;
  }
  benchmark::AddCustomContext("device", (*device)->report().name);
  benchmark::AddCustomContext("driver", (*device)->report().driver);
  tessera::add_all(**device);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
