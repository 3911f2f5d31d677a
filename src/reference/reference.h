// The definition of right: every op in plain loops with double accumulation, and how far a device may be off.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "graph/walker.h"

namespace tessera {

// One output of an op by the reference, and the error bound of each element (docs/verification.md derives the
// formulas; they live in reference/bounds.cpp only).
struct ReferenceOutput {
  ValueId value = kNoValue;
  std::vector<std::uint64_t> elements = {};  // which elements of the value these are; empty: the first
                                             // expected.size() ones, in order
  std::vector<double> expected = {};  // as the device should hold it, before rounding to the value's dtype
  std::vector<double> bound = {};     // absolute, includes that rounding; 0: exact (all u32 values);
                                      // infinite: anything goes (a result beyond the dtype's range, or NaN).
                                      // Empty when bounds were not asked for
  // sample: the entry of `expected` that is the chosen id, and the ids (ascending, that one included) which
  // f32 rounding may choose instead: u lies that close to an edge of the cumulative distribution, or an id
  // that close to the limit of top_k, top_p or min_p. Elsewhere kNoId and empty.
  static constexpr std::size_t kNoId = static_cast<std::size_t>(-1);
  std::size_t id_entry = kNoId;
  std::vector<std::uint32_t> acceptable = {};

  // The element of the value that entry i is about.
  std::uint64_t element(std::size_t i) const { return elements.empty() ? i : elements[i]; }
  // Whether a device that holds `found` there is right. Needs bounds.
  bool accepts(std::size_t i, double found) const;
};

// Runs a program on the CPU. Weights are decoded row by row from the file's format; when all of them take no
// more than 256 MiB as floats, they are kept decoded.
class ReferenceWalker : public Walker {
 public:
  // Errors are those of Program::check().
  static Result<std::unique_ptr<ReferenceWalker>> create(std::shared_ptr<const Program> program);

  // Walker::run() gives invalid_argument, naming the op, when StepState does not fit the graph or the cache
  // (a device cannot tell), or when a token id is outside the vocabulary.

  // Beyond Walker, for verification: activations can be written and read too, and one op can be run alone.
  // Computes the op from the values as they are now, stores its outputs, and (bounds) tells what is allowed.
  virtual Result<std::vector<ReferenceOutput>> run_op(std::uint32_t graph, std::uint32_t op, bool bounds) = 0;

  // Every op's output is moved by `fraction` of its bound with a random sign (fixed seed) before it is
  // rounded to its dtype: how much the final output moves tells how far an honest device may be off at the
  // end. 0 switches it off. What is exact (ids, state) is not moved. Rounded operands of precision mixed
  // count with their likely sum (bounds::mixed_products), not with the largest.
  virtual void perturb(double fraction, std::uint64_t seed) = 0;
};

// How far `output` of a whole run may be off on an honest device: see "The whole" in docs/verification.md.
struct ToleranceOptions {
  std::uint32_t runs = 4;  // perturbed runs, each with other signs
  double fraction = 1;     // of every op's bound
  double safety = 2;       // times the largest movement seen
  std::uint64_t seed = 1;
};
// `drive` does the whole run on the walker it is given: writes inputs, runs graphs, reads and returns the
// numbers that will be compared. It must do the same each time: feed fixed ids, do not sample. Called once
// exactly and `runs` times perturbed, on fresh walkers of `program`, which is the unfused one: a device that
// runs the fused one rounds no more often. Gives one tolerance for all numbers.
using Drive = std::function<Result<std::vector<float>>(Walker& walker)>;
Result<double> run_tolerance(const std::shared_ptr<const Program>& program, const Drive& drive,
                             const ToleranceOptions& options = {});

}  // namespace tessera
