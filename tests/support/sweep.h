// A slow way of running tests (validation layers, sanitizers, a slow device) takes a share of their many
// cases: TESSERA_TEST_SWEEP percent. Elsewhere a larger share of random ones may be asked for.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace tessera::test {

inline std::uint32_t sweep_percent() {
  const char* percent = std::getenv("TESSERA_TEST_SWEEP");
  return percent == nullptr ? 100 : static_cast<std::uint32_t>(std::strtoul(percent, nullptr, 10));
}

// Whether the next of a list of cases is taken: with less than 100 percent that share of them, the first and
// others spread evenly.
class Sweep {
 public:
  bool next() {
    const std::uint64_t before = taken();
    ++seen_;
    return taken() != before || percent_ >= 100;
  }

 private:
  std::uint64_t taken() const { return (seen_ * percent_ + 99) / 100; }

  std::uint64_t percent_ = sweep_percent(), seen_ = 0;
};

}  // namespace tessera::test
