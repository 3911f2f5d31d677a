// The forms of an op that can be one kernel or several: how fast each is, what it moves, which one is chosen.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "bench/run_ops.h"

namespace tessera::bench {

struct FormRun {
  std::string form;
  OpTime time;          // `failed` says why the device has no such form, or that it was wrong
  double bytes = 0;     // read and written: each operand once, and what one kernel leaves for the next; 0
                        // where the form failed
  bool chosen = false;  // what the device gets when nothing is asked for
};

// Names that Target::form may have, the fused one first; none of ops without a choice by shape.
std::span<const std::string_view> forms_of(OpKind kind);

// Whether an op of this kind has the form `name`, or products that have it.
bool has_form(OpKind kind, std::string_view name);
// Every name that some op has as a form.
std::vector<std::string_view> form_names();

// All forms of forms_of(c.kind): each checked on sampled elements against the reference, then timed in turn,
// so that what else a machine does meets them alike. Errors as time_op's.
Result<std::vector<FormRun>> compare_forms(Device& device, const OpCase& c, const OpOptions& options);

}  // namespace tessera::bench
