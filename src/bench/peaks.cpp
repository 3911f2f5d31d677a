#include <algorithm>
#include <array>
#include <chrono>

#include "bench/run_ops.h"
#include "kernels/target.h"

namespace tessera::bench {
namespace {

constexpr std::uint64_t kCopyBytes = 256u << 20;
constexpr int kRuns = 5;
constexpr double kEnoughSeconds = 0.02;  // of arithmetic: long enough for clocks to rise

// The least of a few runs of a finished list with two timestamps; of the host's clock without them.
Result<double> seconds(Device& device, CommandList& list, int runs) {
  double best = 0;
  for (int i = 0; i < runs; ++i) {
    const CommandList* one = &list;
    const auto start = std::chrono::steady_clock::now();
    TSR_TRY(const std::uint64_t value, device.submit({&one, 1}));
    TSR_TRY(const bool done, device.wait(value, 60'000'000'000));
    if (!done) return Error{Code::device_lost, "a probe did not end within a minute"};
    double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (has_gpu_clock(device)) {
      std::array<double, 2> ns{};
      TSR_CHECK(list.timestamps(ns));
      s = ns[1] * 1e-9;
    }
    best = i == 0 ? s : std::min(best, s);
  }
  return best;
}

Result<double> copy_rate(Device& device) {
  const std::uint64_t bytes = std::min(kCopyBytes, device.report().limits.max_buffer_size / 2 / 4096 * 4096);
  TSR_TRY(auto from, device.create_buffer(bytes, Memory::device, "copy probe"));
  TSR_TRY(auto to, device.create_buffer(bytes, Memory::device, "copy probe"));
  TSR_TRY(auto list, device.create_command_list(2));
  list->fill(*from, 0, bytes, 1);  // pages that were never touched cost nothing to read
  list->barrier();
  list->timestamp(0);
  list->copy(*from, 0, *to, 0, bytes);
  list->barrier();
  list->timestamp(1);
  TSR_CHECK(list->finish());
  TSR_TRY(const double s, seconds(device, *list, kRuns));
  return s > 0 ? 2.0 * static_cast<double>(bytes) / s : 0;
}

Result<double> probe_seconds(Device& device, const Dispatch& d, int runs) {
  TSR_TRY(auto pipeline, device.create_pipeline(pipeline_desc(d)));
  TSR_TRY(auto out, device.create_buffer(4096, Memory::device, "arithmetic probe"));
  const BindingRange range{out.get(), 0, 4096};
  TSR_TRY(auto set, device.create_binding_set(*pipeline, {&range, 1}));
  TSR_TRY(auto list, device.create_command_list(2));
  list->timestamp(0);
  list->dispatch(*pipeline, *set, d.push, {0, 0, 0}, d.grid);
  list->barrier();
  list->timestamp(1);
  TSR_CHECK(list->finish());
  return seconds(device, *list, runs);
}

Result<double> arithmetic_rate(Device& device) {
  const Target target = target_of(device);
  for (std::uint32_t loops = 16;; loops *= 2) {
    TSR_TRY(const Dispatch d, choose_probe(loops, target));
    TSR_TRY(const double once, probe_seconds(device, d, 1));
    if (once < kEnoughSeconds && loops < (1u << 20)) continue;
    TSR_TRY(const double best, probe_seconds(device, d, kRuns));
    return best > 0 ? d.flops / best : 0;
  }
}

}  // namespace

Result<Peaks> measure_peaks(Device& device) {
  Peaks out;
  TSR_TRY(out.copy_bytes_per_s, copy_rate(device));
  TSR_TRY(out.flops_per_s, arithmetic_rate(device));
  return out;
}

}  // namespace tessera::bench
