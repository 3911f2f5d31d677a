// The definition of right: every op in plain loops with double accumulation, and how far a device may be off.
#pragma once

#include <memory>
#include <vector>

#include "graph/walker.h"

namespace tessera {

// One output of an op by the reference, and the error bound of each element (docs/verification.md derives the
// formulas; they live in reference/bounds.cpp only).
struct ReferenceOutput {
  ValueId value = kNoValue;
  std::vector<std::uint64_t> elements;  // which elements of the value these are; empty: all of them, in order
  std::vector<double> expected;         // as the device should hold it, before rounding to the value's dtype
  std::vector<double> bound;            // absolute, includes that rounding
};

class ReferenceWalker : public Walker {
 public:
  static Result<std::unique_ptr<ReferenceWalker>> create(std::shared_ptr<const Program> program);

  // Beyond Walker, for verification: activations can be written and read too, and one op can be run alone.
  // Computes the op from the values as they are now, stores its outputs, and (bounds) tells what is allowed.
  virtual Result<std::vector<ReferenceOutput>> run_op(std::uint32_t graph, std::uint32_t op, bool bounds) = 0;

  // Every op's stored output is moved by `fraction` of its bound with a random sign (fixed seed): how much
  // the final output moves tells how far an honest device may be off at the end. 0 switches it off.
  virtual void perturb(double fraction, std::uint64_t seed) = 0;
};

}  // namespace tessera
