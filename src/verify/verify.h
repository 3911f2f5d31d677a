// Two questions that can both fail. (a) Is each kernel right? Every op of the fused graphs, from the device's
// own inputs, against the reference and its bound. (b) Is the whole right? The real arena against one without
// aliasing, bit by bit, and the final outputs against the reference on the unfused graphs.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "schedule/gpu_walker.h"

namespace tessera {

// What to run: before each pass the inputs are written, so that device and reference never drift apart.
struct ScriptPass {
  struct Write {
    ValueId value = kNoValue;
    std::vector<std::byte> bytes;
  };
  std::vector<Write> writes;
  std::uint32_t graph = 0;
  std::vector<ValueId> compare;  // outputs to compare as a whole after this pass
};

struct VerifyRow {
  std::string kind;  // of op; "whole"; "arena"
  std::uint64_t ops = 0, elements = 0;
  double worst_error = 0, worst_bound = 0, worst_ratio = 0;  // ratio: error / bound, over 1 fails
  // whole: the largest magnitude of the last comparison, which the tolerance (worst_bound) has to be small
  // beside for the comparison to mean something; else 0.
  double largest = 0;
};

struct VerifyReport {
  std::vector<VerifyRow> rows;
  std::string first_fault;  // empty: all is right
};

struct VerifyDesc {
  std::shared_ptr<const Program> unfused, fused;  // ValueIds of unfused mean the same in fused
  std::vector<ScriptPass> script;
  GpuWalkerOptions walker;  // alias is set by verify
  Progress progress;        // stage "verify"
};

// Errors are those of running; a fault of the device is in the report.
Result<VerifyReport> verify(Device& device, const VerifyDesc& desc);

}  // namespace tessera
