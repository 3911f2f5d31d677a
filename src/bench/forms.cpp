#include "bench/forms.h"

#include <algorithm>

#include "kernels/target.h"
#include "schedule/memory_map.h"
#include "schedule/steps.h"

namespace tessera::bench {
namespace {

constexpr std::string_view kFeedForwardForms[] = {"feed_forward_fused", "feed_forward_products"};
constexpr std::string_view kMlpForms[] = {"mlp_fused", "mlp_products"};

struct Planned {
  std::string text;  // its schedule: equal ones are the same form
  double bytes = 0;
};

Result<Planned> plan(const Device& device, const OpCase& c, std::string_view form) {
  const OneOp op = build(c, whole(c));
  Target target = target_of(device);
  target.form = form;
  TSR_TRY(const MemoryMap map, map_memory(*op.program, target.limits));
  const Graph& graph = op.program->graphs[0];
  TSR_TRY(const ScheduledGraph scheduled, schedule(*op.program, graph, map, target, true));
  Planned out{print(*op.program, graph, map, scheduled)};
  for (const Step& step : scheduled.steps) out.bytes += step.dispatch.bytes;
  return out;
}

// Into `run`, what it moves and whether it is chosen; into `ready`, the form itself unless it failed.
Result<void> prepare(Device& device, const OpCase& c, const std::string& chosen, FormRun& run,
                     std::vector<ReadyOp>& ready) {
  TSR_TRY(const Planned planned, plan(device, c, run.form));
  run.chosen = planned.text == chosen;
  TSR_TRY(TimedOp op, TimedOp::create(device, c, run.form));
  TSR_CHECK(op.seconds());
  TSR_CHECK(op.check(run.time));
  if (run.time.wrong) return {};
  run.bytes = planned.bytes;
  ready.push_back({std::move(op), run.time});
  return {};
}

std::vector<std::string_view> names_of(OpKind kind) {
  std::vector<std::string_view> out;
  const auto add = [&](std::span<const std::string_view> rates) {
    for (const std::string_view rate : rates) {
      const std::string_view name = rate.substr(0, rate.find('/'));
      if (std::ranges::find(out, name) == out.end()) out.push_back(name);
    }
  };
  add(forms_of(kind));
  if (kind == OpKind::matmul || kind == OpKind::feed_forward) add(matmul_rate_names());
  if (kind == OpKind::attention) add(attention_rate_names());
  return out;
}

}  // namespace

std::span<const std::string_view> forms_of(OpKind kind) {
  if (kind == OpKind::feed_forward) return kFeedForwardForms;
  if (kind == OpKind::mlp) return kMlpForms;
  return {};
}

bool has_form(OpKind kind, std::string_view name) {
  const std::vector<std::string_view> names = names_of(kind);
  return std::ranges::find(names, name) != names.end();
}

std::vector<std::string_view> form_names() {
  std::vector<std::string_view> out;
  for (const OpKind kind : {OpKind::matmul, OpKind::feed_forward, OpKind::mlp, OpKind::attention})
    for (const std::string_view name : names_of(kind))
      if (std::ranges::find(out, name) == out.end()) out.push_back(name);
  return out;
}

Result<std::vector<FormRun>> compare_forms(Device& device, const OpCase& c, const OpOptions& options) {
  std::vector<FormRun> out;
  std::vector<ReadyOp> ready;
  std::vector<std::size_t> index;  // of `ready` in `out`
  const Result<Planned> choice = plan(device, c, {});
  for (const std::string_view name : forms_of(c.kind)) {
    FormRun run{std::string(name), {}};
    const std::size_t before = ready.size();
    const Result<void> done = prepare(device, c, choice ? choice->text : std::string(), run, ready);
    if (!done.ok()) {
      if (done.error().code == Code::device_lost) return done.error();
      run.time.failed = done.error().message;
    }
    if (ready.size() > before) index.push_back(out.size());
    out.push_back(std::move(run));
  }
  const Result<void> measured = measure(ready, options);
  if (!measured.ok() && measured.error().code == Code::device_lost) return measured.error();
  for (std::size_t i = 0; i < ready.size(); ++i) {
    FormRun& run = out[index[i]];
    run.time = std::move(ready[i].time);
    if (measured.ok()) continue;
    run.time = {.failed = measured.error().message};
    run.bytes = 0;
  }
  return out;
}

}  // namespace tessera::bench
