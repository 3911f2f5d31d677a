#include <algorithm>
#include <cmath>
#include <cstring>

#include "reference/bounds.h"
#include "reference/ops.h"

namespace tessera {
namespace {

Result<Outputs> run_kind(const OpCall& call) {
  switch (call.op.kind) {
    case OpKind::embedding: return run_embedding(call);
    case OpKind::norm: return run_norm(call);
    case OpKind::matmul: return run_matmul(call);
    case OpKind::feed_forward: return run_feed_forward(call);
    case OpKind::mlp: return run_mlp(call);
    case OpKind::rope: return run_rope(call);
    case OpKind::kv_append: return run_kv_append(call);
    case OpKind::rope_append: return run_rope_append(call);
    case OpKind::qkv_append: return run_qkv_append(call);
    case OpKind::attention: return run_attention(call);
    case OpKind::linear_attention: return run_linear_attention(call);
    case OpKind::add: return run_add(call);
    case OpKind::activation: return run_activation(call);
    case OpKind::glu: return run_glu(call);
    case OpKind::softmax: return run_softmax(call);
    case OpKind::last_row: return run_last_row(call);
    case OpKind::sample: return run_sample(call);
    case OpKind::advance: return run_advance(call);
  }
  return Error{Code::internal, call.op.name + ": unknown kind of op"};
}

class CpuWalker final : public ReferenceWalker {
 public:
  explicit CpuWalker(std::shared_ptr<const Program> program)
      : program_(std::move(program)), tensors_(*program_) {}

  const Program& program() const override { return *program_; }

  Result<void> write(ValueId value, std::uint64_t offset, std::span<const std::byte> bytes) override {
    TSR_TRY(const std::span<std::byte> at, range(value, offset, bytes.size()));
    std::ranges::copy(bytes, at.begin());
    return {};
  }

  Result<void> read(ValueId value, std::uint64_t offset, std::span<std::byte> bytes) override {
    TSR_TRY(const std::span<std::byte> at, range(value, offset, bytes.size()));
    std::ranges::copy(at, bytes.begin());
    return {};
  }

  Result<void> run(std::uint32_t graph) override {
    if (graph >= program_->graphs.size()) return no_graph(graph);
    const auto count = static_cast<std::uint32_t>(program_->graphs[graph].ops.size());
    for (std::uint32_t op = 0; op < count; ++op)
      if (auto done = run_op(graph, op, false); !done.ok()) return done.error();
    return {};
  }

  std::uint32_t slices(std::uint32_t) const override { return 1; }
  SlicePrediction predict(const SliceRun&) const override { return {}; }
  Result<std::uint64_t> submit(std::span<const SliceRun> runs, bool) override {
    for (const SliceRun& r : runs) TSR_CHECK(run(r.graph));
    return ++submitted_;
  }
  Result<bool> wait(std::uint64_t, std::uint64_t) override { return true; }
  Loading loading() const override { return {}; }
  Result<void> load(std::uint64_t) override { return {}; }
  Result<void> release_weights() override { return {}; }
  bool wants_tuning(std::uint32_t, double) const override { return false; }
  Result<void> tune(std::uint32_t, double) override { return {}; }

  Result<Outputs> run_op(std::uint32_t graph, std::uint32_t index, bool bounds) override {
    if (graph >= program_->graphs.size()) return no_graph(graph);
    const Graph& g = program_->graphs[graph];
    if (index >= g.ops.size())
      return Error{Code::invalid_argument, "graph " + g.name + " has no op " + std::to_string(index)};
    const Op& op = g.ops[index];
    const StepState state = tensors_.state(program_->state);
    const std::uint64_t rows = rows_of(op, state);
    if (rows == state.rows && rows > g.max_rows)
      return Error{Code::invalid_argument, op.name + ": " + std::to_string(rows) + " rows, but graph " +
                                               g.name + " takes at most " + std::to_string(g.max_rows)};
    const bool perturbed = fraction_ != 0;
    TSR_TRY(Outputs outputs,
            run_kind({*program_, op, tensors_, state, rows, bounds || perturbed, perturbed}));
    for (const ReferenceOutput& output : outputs) store(output);
    return outputs;
  }

  void perturb(double fraction, std::uint64_t seed) override {
    fraction_ = fraction;
    seed_ = seed;
    moved_ = 0;
  }

  WalkerStats stats() const override {
    WalkerStats stats;
    for (ValueId id : used_values(*program_)) {
      const Value& value = program_->values[id];
      const std::uint64_t bytes = value_bytes(value);
      if (value.storage == Storage::weight) stats.weight_bytes += bytes;
      if (value.storage == Storage::cache) stats.cache_bytes += bytes;
      if (value.storage == Storage::activation) stats.arena_bytes += bytes;
    }
    return stats;
  }

 private:
  // kv_append has its rows from its input: its output is a cache.
  std::uint64_t rows_of(const Op& op, const StepState& state) const {
    if (op.kind == OpKind::sample || op.kind == OpKind::advance || op.kind == OpKind::linear_attention)
      return 0;
    const Value& value = program_->values[op.kind == OpKind::kv_append ? op.in[0] : op.out[0]];
    return value.dynamic_rows ? state.rows : value.shape[0];
  }

  static Error no_graph(std::uint32_t graph) {
    return Error{Code::invalid_argument, "the program has no graph " + std::to_string(graph)};
  }

  Result<std::span<std::byte>> range(ValueId value, std::uint64_t offset, std::uint64_t bytes) {
    if (value >= program_->values.size())
      return Error{Code::invalid_argument, "the program has no value " + std::to_string(value)};
    const std::span<std::byte> all = tensors_.bytes(value);
    if (offset > all.size() || bytes > all.size() - offset)
      return Error{Code::invalid_argument, std::to_string(bytes) + " bytes at " + std::to_string(offset) +
                                               " are outside value " + program_->values[value].name +
                                               ", which holds " + std::to_string(all.size())};
    return all.subspan(offset, bytes);
  }

  void store(const ReferenceOutput& output) {
    if (program_->values[output.value].dtype == DType::q8_0) return store_blocks(output);
    for (std::size_t i = 0; i < output.expected.size(); ++i)
      tensors_.store(output.value, output.element(i), moved(output, i));
  }

  // What is expected of a block, quantised again, is itself.
  void store_blocks(const ReferenceOutput& output) {
    const std::size_t n = info(DType::q8_0).block_elems;
    std::vector<float> block(n);
    for (std::size_t i = 0; i + n <= output.expected.size(); i += n) {
      for (std::size_t e = 0; e < n; ++e) block[e] = static_cast<float>(moved(output, i + e));
      tensors_.store_row(output.value, output.element(i), block);
    }
  }

  double moved(const ReferenceOutput& output, std::size_t i) {
    if (fraction_ == 0 || !std::isfinite(output.bound[i])) return output.expected[i];
    return output.expected[i] + sign() * fraction_ * unrounded(output, i);
  }

  // The bound without the rounding that storing does by itself.
  double unrounded(const ReferenceOutput& output, std::size_t i) const {
    const DType type = program_->values[output.value].dtype;
    return std::max(output.bound[i] - bounds::rounding(type, std::fabs(output.expected[i])), 0.0);
  }

  // +1 or -1, the same sequence for the same seed.
  double sign() {
    const std::uint64_t at = moved_++;
    const auto bits =
        philox4x32({static_cast<std::uint32_t>(at >> 7), static_cast<std::uint32_t>(at >> 39), 0, 0},
                   {static_cast<std::uint32_t>(seed_), static_cast<std::uint32_t>(seed_ >> 32)});
    return bits[at >> 5 & 3] >> (at & 31) & 1 ? 1 : -1;
  }

  std::shared_ptr<const Program> program_;
  Tensors tensors_;
  double fraction_ = 0;
  std::uint64_t seed_ = 0, moved_ = 0;
  std::uint64_t submitted_ = 0;
};

}  // namespace

Result<std::unique_ptr<ReferenceWalker>> ReferenceWalker::create(std::shared_ptr<const Program> program) {
  TSR_CHECK(program->check());
  return std::unique_ptr<ReferenceWalker>(std::make_unique<CpuWalker>(std::move(program)));
}

bool ReferenceOutput::accepts(std::size_t i, double found) const {
  if (i == id_entry && std::ranges::find(acceptable, found) != acceptable.end()) return true;
  return std::isinf(bound[i]) || found == expected[i] || std::fabs(found - expected[i]) <= bound[i];
}

Result<double> run_tolerance(const std::shared_ptr<const Program>& program, const Drive& drive,
                             const ToleranceOptions& options) {
  TSR_TRY(auto exact_walker, ReferenceWalker::create(program));
  TSR_TRY(const std::vector<float> exact, drive(*exact_walker));
  double largest = 0;
  for (std::uint32_t run = 0; run < options.runs; ++run) {
    TSR_TRY(auto walker, ReferenceWalker::create(program));
    walker->perturb(options.fraction, options.seed + run);
    TSR_TRY(const std::vector<float> moved, drive(*walker));
    if (moved.size() != exact.size())
      return Error{Code::internal, "a perturbed run gave " + std::to_string(moved.size()) + " numbers, not " +
                                       std::to_string(exact.size())};
    for (std::size_t i = 0; i < exact.size(); ++i)
      largest = std::max(largest, std::fabs(double{moved[i]} - double{exact[i]}));
  }
  return options.safety * largest;
}

}  // namespace tessera
