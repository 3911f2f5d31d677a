// The ops of src/bench/cases.cpp under Google Benchmark, by GPU timestamps:
// --benchmark_repetitions=5 gives the median and the spread, --benchmark_filter chooses. The results are not
// checked here; `tessera bench ops` and the tests do that. TESSERA_BENCH_DEVICE: an index or part of a name.

#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>

#include "bench/run_ops.h"

namespace tessera {
namespace {

void run(benchmark::State& state, Device& device, const bench::OpCase& c) {
  auto op = bench::TimedOp::create(device, c);
  if (!op) return state.SkipWithError(op.error().message.c_str());
  for (auto _ : state) {
    const auto seconds = op->seconds();
    if (!seconds) return state.SkipWithError(seconds.error().message.c_str());
    state.SetIterationTime(*seconds);
  }
  using Counter = benchmark::Counter;
  state.counters["FLOP/s"] = Counter(c.flops(), Counter::kIsIterationInvariantRate);
  state.counters["B/s"] = Counter(c.bytes(), Counter::kIsIterationInvariantRate);
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
  for (const tessera::bench::OpCase& c : tessera::bench::op_cases())
    benchmark::RegisterBenchmark(c.name.c_str(),
                                 [&device, c](benchmark::State& s) { tessera::run(s, **device, c); })
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
