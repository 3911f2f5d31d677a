#include "bench/forms.h"

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
  run.bytes = planned.bytes;
  run.chosen = planned.text == chosen;
  TSR_TRY(TimedOp op, TimedOp::create(device, c, run.form));
  TSR_CHECK(op.seconds());
  TSR_CHECK(op.check(run.time));
  if (!run.time.wrong) ready.push_back({std::move(op), run.time});
  return {};
}

}  // namespace

std::span<const std::string_view> forms_of(OpKind kind) {
  if (kind == OpKind::feed_forward) return kFeedForwardForms;
  if (kind == OpKind::mlp) return kMlpForms;
  return {};
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
  TSR_CHECK(measure(ready, options));
  for (std::size_t i = 0; i < ready.size(); ++i) out[index[i]].time = std::move(ready[i].time);
  return out;
}

}  // namespace tessera::bench
