#include "verify/verify.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>

#include "base/cache_row.h"
#include "reference/reference.h"

namespace tessera {
namespace {

std::vector<std::byte> value_buffer(const Value& value) { return std::vector<std::byte>(value_bytes(value)); }

double element_at(const Value& value, std::span<const std::byte> bytes, std::uint64_t i) {
  if (value.dtype == DType::u32) {
    std::uint32_t x;
    std::memcpy(&x, bytes.data() + i * 4, 4);
    return x;
  }
  float x = 0;
  read_cache(value.dtype, value.last_dim(), bytes, i, {&x, 1});  // any value's elements lie so
  return x;
}

double largest_of(std::span<const std::byte> floats) {
  double largest = 0;
  for (std::size_t i = 0; i + 4 <= floats.size(); i += 4) {
    float x;
    std::memcpy(&x, floats.data() + i, 4);
    largest = std::max(largest, std::fabs(double{x}));
  }
  return largest;
}

bool stays(Storage storage) { return storage == Storage::weight || storage == Storage::constant; }

class Verifier {
 public:
  Verifier(Device& device, const VerifyDesc& desc) : device_(device), desc_(desc) {}

  Result<VerifyReport> run() {
    for (const ScriptPass& pass : desc_.script) total_ += desc_.fused->graphs[pass.graph].ops.size();
    TSR_CHECK(each_op());
    TSR_CHECK(whole());
    for (auto& [kind, row] : rows_) report_.rows.push_back(row);
    return std::move(report_);
  }

 private:
  // (a); keeps the outputs that (b) compares bit by bit.
  Result<void> each_op() {
    GpuWalkerOptions options = desc_.walker;
    options.alias = false;
    TSR_TRY(auto device, GpuWalker::create(device_, desc_.fused, options));
    TSR_TRY(auto reference, ReferenceWalker::create(desc_.fused));
    for (std::uint32_t p = 0; p < desc_.script.size(); ++p) {
      const ScriptPass& pass = desc_.script[p];
      for (const ScriptPass::Write& w : pass.writes) TSR_CHECK(device->write(w.value, 0, w.bytes));
      const Graph& graph = desc_.fused->graphs[pass.graph];
      for (std::uint32_t i = 0; i < graph.ops.size(); ++i) {
        if (!tessera::report(desc_.progress, "verify", done_++, total_))
          return Error{Code::cancelled, "verification was cancelled"};
        TSR_CHECK(one_op(*device, *reference, pass.graph, i, p));
      }
      TSR_CHECK(keep_outputs(*device, pass, unaliased_));
    }
    return {};
  }

  Result<void> one_op(GpuWalker& device, ReferenceWalker& reference, std::uint32_t g, std::uint32_t index,
                      std::uint32_t pass) {
    const Op& op = desc_.fused->graphs[g].ops[index];
    for (ValueId id : op.in) {
      if (id == kNoValue || stays(desc_.fused->values[id].storage)) continue;
      std::vector<std::byte> bytes = value_buffer(desc_.fused->values[id]);
      TSR_CHECK(device.read_activation(g, id, bytes));
      TSR_CHECK(reference.write(id, 0, bytes));
    }
    TSR_CHECK(device.run_op(g, index));
    TSR_TRY(const std::vector<ReferenceOutput> expected, reference.run_op(g, index, true));
    VerifyRow& row = rows_[std::string(name(op.kind))];
    row.kind = name(op.kind);
    ++row.ops;
    for (const ReferenceOutput& out : expected) {
      const Value& value = desc_.fused->values[out.value];
      std::vector<std::byte> bytes = value_buffer(value);
      TSR_CHECK(device.read_activation(g, out.value, bytes));
      compare(op, pass, value, out, bytes, row);
    }
    return {};
  }

  void compare(const Op& op, std::uint32_t pass, const Value& value, const ReferenceOutput& out,
               std::span<const std::byte> bytes, VerifyRow& row) {
    for (std::size_t i = 0; i < out.expected.size(); ++i) {
      const double found = element_at(value, bytes, out.element(i));
      ++row.elements;
      const bool accepted = out.accepts(i, found);
      const double error = found == out.expected[i] ? 0 : std::abs(found - out.expected[i]);
      double ratio = error == 0 ? 0 : error / out.bound[i];
      if (accepted && !(ratio <= 1)) ratio = 0;  // another id within rounding, or nothing to hold it to
      if (!accepted && !(ratio > 1)) ratio = INFINITY;
      if (ratio > row.worst_ratio || row.elements == 1) {
        row.worst_ratio = ratio;
        row.worst_error = error;
        row.worst_bound = out.bound[i];
      }
      if (accepted || !report_.first_fault.empty()) continue;
      report_.first_fault = fault(op, pass, value, out.element(i), found, out.expected[i], out.bound[i]);
    }
  }

  std::string fault(const Op& op, std::uint32_t pass, const Value& value, std::uint64_t element, double found,
                    double expected, double bound) const {
    std::string shape, at;
    for (std::uint64_t d : value.shape) shape += (shape.empty() ? "" : ",") + std::to_string(d);
    std::uint64_t rest = element;
    for (std::size_t d = value.shape.size(); d-- > 0; rest /= value.shape[d])
      at = std::to_string(rest % value.shape[d]) + (at.empty() ? "" : ",") + at;
    char numbers[160];
    std::snprintf(numbers, sizeof(numbers),
                  "the device has %.9g, the reference %.9g, allowed is a difference of %.3g", found, expected,
                  bound);
    return std::string(name(op.kind)) + " '" + op.name + "' (graph '" +
           desc_.fused->graphs[desc_.script[pass].graph].name + "', pass " + std::to_string(pass) +
           "): output '" + value.name + "' (" + shape + ") at [" + at + "]: " + numbers;
  }

  // (b)
  Result<void> whole() {
    GpuWalkerOptions options = desc_.walker;
    options.alias = true;
    TSR_TRY(auto device, GpuWalker::create(device_, desc_.fused, options));
    std::vector<std::vector<std::byte>> aliased;
    TSR_CHECK(run_script(*device, aliased));
    compare_arenas(aliased);
    TSR_TRY(auto reference, ReferenceWalker::create(desc_.unfused));
    std::vector<std::vector<std::byte>> expected;
    TSR_CHECK(run_script(*reference, expected));
    const Drive drive = [this](Walker& walker) -> Result<std::vector<float>> {
      std::vector<std::vector<std::byte>> kept;
      TSR_CHECK(run_script(walker, kept));
      std::vector<float> all;
      for (const auto& bytes : kept) {
        const std::size_t at = all.size();
        all.resize(at + bytes.size() / 4);
        std::memcpy(all.data() + at, bytes.data(), bytes.size());
      }
      return all;
    };
    TSR_TRY(const double tolerance, run_tolerance(desc_.unfused, drive));
    compare_whole(aliased, expected, tolerance);
    return {};
  }

  Result<void> run_script(Walker& walker, std::vector<std::vector<std::byte>>& kept) const {
    for (const ScriptPass& pass : desc_.script) {
      if (!tessera::report(desc_.progress, "verify", total_, total_))
        return Error{Code::cancelled, "verification was cancelled"};
      for (const ScriptPass::Write& w : pass.writes) TSR_CHECK(walker.write(w.value, 0, w.bytes));
      TSR_CHECK(walker.run(pass.graph));
      TSR_CHECK(keep_outputs(walker, pass, kept));
    }
    return {};
  }

  Result<void> keep_outputs(Walker& walker, const ScriptPass& pass,
                            std::vector<std::vector<std::byte>>& kept) const {
    for (ValueId id : pass.compare) {
      kept.push_back(value_buffer(desc_.fused->values[id]));
      TSR_CHECK(walker.read(id, 0, kept.back()));
    }
    return {};
  }

  void compare_arenas(const std::vector<std::vector<std::byte>>& aliased) {
    VerifyRow& row = rows_["~arena"];
    row.kind = "arena";
    for (std::size_t k = 0; k < aliased.size(); ++k) {
      row.elements += aliased[k].size() / 4;
      ++row.ops;
      if (std::memcmp(aliased[k].data(), unaliased_[k].data(), aliased[k].size()) == 0) continue;
      row.worst_ratio = INFINITY;
      if (report_.first_fault.empty())
        report_.first_fault =
            "the whole: results in the real arena differ from those in one without aliasing "
            "(comparison " +
            std::to_string(k) + "): a lifetime, an alias or a barrier is wrong";
    }
  }

  void compare_whole(const std::vector<std::vector<std::byte>>& found,
                     const std::vector<std::vector<std::byte>>& expected, double tolerance) {
    VerifyRow& row = rows_["~whole"];
    row.kind = "whole";
    row.worst_bound = tolerance;
    if (!expected.empty()) row.largest = largest_of(expected.back());
    for (std::size_t k = 0; k < found.size(); ++k) {
      ++row.ops;
      for (std::size_t i = 0; i + 4 <= found[k].size(); i += 4) {
        float a, b;
        std::memcpy(&a, found[k].data() + i, 4);
        std::memcpy(&b, expected[k].data() + i, 4);
        ++row.elements;
        const double error = a == b ? 0 : std::abs(double{a} - double{b});
        if (error <= row.worst_error) continue;
        row.worst_error = std::isnan(error) ? INFINITY : error;
        if (error <= tolerance || !report_.first_fault.empty()) continue;
        char text[200];
        std::snprintf(
            text, sizeof(text),
            "the whole: comparison %zu element %zu: the device has %.9g, the unfused reference %.9g, allowed "
            "is a difference of %.3g",
            k, i / 4, double{a}, double{b}, tolerance);
        report_.first_fault = text;
      }
    }
    row.worst_ratio = row.worst_error == 0 ? 0 : row.worst_error / tolerance;
  }

  Device& device_;
  const VerifyDesc& desc_;
  VerifyReport report_;
  std::map<std::string, VerifyRow> rows_;  // "~" sorts the wholes last
  std::vector<std::vector<std::byte>> unaliased_;
  std::uint64_t done_ = 0, total_ = 0;
};

}  // namespace

Result<VerifyReport> verify(Device& device, const VerifyDesc& desc) { return Verifier(device, desc).run(); }

}  // namespace tessera
