// Random choices by a seed.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <random>

namespace tessera::test {

class Draw {
 public:
  explicit Draw(std::uint32_t seed) : engine_(seed) {}
  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(engine_() % n); }
  bool chance(std::uint32_t percent) { return below(100) < percent; }
  template <typename T>
  T of(std::initializer_list<T> list) {
    return list.begin()[below(static_cast<std::uint32_t>(list.size()))];
  }

 private:
  std::mt19937 engine_;
};

}  // namespace tessera::test
