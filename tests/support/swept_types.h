// Types of weights for tests that go through all of them.
#pragma once

#include <iterator>
#include <vector>

#include "base/dtype.h"
#include "support/sweep.h"

namespace tessera::test {

// Every type of weights; of a share four that decode in different ways.
inline std::vector<DType> swept_weight_types() {
  if (sweep_percent() >= 100) return {std::begin(kWeightTypes), std::end(kWeightTypes)};
  return {DType::bf16, DType::q8_0, DType::q5_1, DType::q6_k};
}

}  // namespace tessera::test
