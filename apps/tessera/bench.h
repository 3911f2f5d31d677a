// What the benches share.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "common.h"

namespace tool {

std::string utc_now();  // "2026-01-31T12:00:00Z"

struct BenchModelOptions {
  DeviceOptions device;
  std::string model;
  std::uint32_t prompt = 512, generate = 64, chunk = 512;
  bool json = false;
};
void add_bench_model(CLI::App& bench, int& status);
void add_bench_rates(CLI::App& bench, int& status);

}  // namespace tool
