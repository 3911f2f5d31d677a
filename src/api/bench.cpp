// The cases of bench/ through the C ABI: tessera_bench_ops, tessera_bench_forms, and tessera_measure_rates on
// the forms of kernels.
#include <algorithm>

#include "api/handles.h"
#include "bench/forms.h"
#include "bench/rates.h"
#include "bench/run_ops.h"
#include "kernels/choose.h"
#include "tessera/tessera_tools.h"

using namespace tessera;
using namespace tessera::api;

namespace {

// Without a compiler there are no users' functions.
void give_compiler(std::vector<bench::OpCase>& cases, const std::shared_ptr<GlslModules>& glsl) {
  if (!glsl) std::erase_if(cases, [](const bench::OpCase& c) { return c.user != nullptr; });
  for (bench::OpCase& c : cases) {
    if (!c.user) continue;
    UserFunctions user = *c.user;
    user.modules = glsl;
    c.user = std::make_shared<const UserFunctions>(std::move(user));
  }
}

template <typename Desc>
Result<std::vector<bench::OpCase>> wanted_cases(const Desc& desc) {
  TSR_TRY(const Precision precision, make_precision(desc.precision));
  std::vector<bench::OpCase> cases = bench::op_cases();
  if (desc.wanted != nullptr)
    std::erase_if(cases, [&](const bench::OpCase& c) { return desc.wanted(desc.user, c.name.c_str()) == 0; });
  for (bench::OpCase& c : cases)
    if (c.kind == OpKind::matmul || c.kind == OpKind::feed_forward || c.kind == OpKind::attention)
      c.precision = precision;
  return cases;
}

Result<std::string> make_form(const char* name) {
  const std::string form = name == nullptr ? "" : name;
  const std::vector<std::string_view> names = bench::form_names();
  if (form.empty() || std::ranges::find(names, form) != names.end()) return form;
  std::string text;
  for (const std::string_view n : names) text += (text.empty() ? "" : ", ") + std::string(n);
  return Error{Code::invalid_argument, "no op has a form '" + form + "'; forms are " + text};
}

// Points into both.
tessera_bench_op bench_op(const bench::OpCase& c, const bench::OpTime& time) {
  tessera_bench_op op{};
  op.size = sizeof(op);
  op.name = c.name.c_str();
  op.failed = time.failed.c_str();
  op.wrong = time.wrong;
  op.flops = c.flops();
  op.bytes = c.bytes();
  op.samples = time.samples;
  op.median_s = time.median_s;
  op.min_s = time.min_s;
  op.max_s = time.max_s;
  op.checked = time.checked;
  op.worst_ratio = time.worst_ratio;
  op.tiles = time.tiles.computed;
  op.all_tiles = time.tiles.all;
  return op;
}

void hand_out(const bench::OpCase& c, const bench::OpTime& time, const tessera_bench_desc& desc) {
  if (desc.op == nullptr) return;
  const tessera_bench_op op = bench_op(c, time);
  desc.op(desc.user, &op);
}

void hand_out(const bench::FormTime& form, const tessera_rates_desc& desc) {
  if (desc.rate == nullptr) return;
  const tessera_bench_op time = bench_op(form.shape, form.time);
  const std::string setting =
      form.time.failed.empty() ? print(MeasuredRate{form.name, form.flops_per_s()}) : "";
  tessera_form_rate rate{};
  rate.size = sizeof(rate);
  rate.form = form.name.c_str();
  rate.setting = setting.c_str();
  rate.time = &time;
  desc.rate(desc.user, &rate);
}

void hand_out(const bench::OpCase& c, const bench::FormRun& run, const tessera_forms_desc& desc) {
  if (desc.form == nullptr) return;
  const tessera_bench_op time = bench_op(c, run.time);
  tessera_bench_form form{};
  form.size = sizeof(form);
  form.form = run.form.c_str();
  form.chosen = run.chosen;
  form.rows = c.rows;
  form.moved = run.bytes;
  form.time = &time;
  desc.form(desc.user, &form);
}

// The longest prompts are for GPUs. At a twentieth of its peak a run should end within a minute.
bench::OpTime too_slow(const bench::OpCase& c, const bench::Peaks& peaks) {
  bench::OpTime out;
  const double seconds = c.flops() / (0.05 * peaks.flops_per_s);
  if (seconds > 60)
    out.failed =
        "skipped: " + std::to_string(static_cast<int>(seconds)) + " s a run at 5 % of the device's peak";
  return out;
}

Result<void> run(Device& device, const tessera_bench_desc& desc, const std::shared_ptr<GlslModules>& glsl) {
  const Progress progress = make_progress(desc.progress, desc.progress_user);
  TSR_TRY(const std::string form, make_form(desc.form));
  TSR_TRY(std::vector<bench::OpCase> cases, wanted_cases(desc));
  give_compiler(cases, glsl);
  if (cases.empty()) return Error{Code::invalid_argument, "no op has such a name"};
  TSR_TRY(const bench::Peaks peaks, bench::measure_peaks(device));
  if (desc.device != nullptr)
    desc.device(desc.user, device.report().driver.c_str(), bench::has_gpu_clock(device),
                peaks.copy_bytes_per_s, peaks.flops_per_s);
  bench::OpOptions options;
  if (desc.samples != 0) options.samples = desc.samples;
  std::string wrong;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    if (!report(progress, "ops", i, cases.size())) return Error{Code::cancelled, "benchmark cancelled"};
    if (const bench::OpTime skipped = too_slow(cases[i], peaks); !skipped.failed.empty()) {
      hand_out(cases[i], skipped, desc);
      continue;
    }
    options.form = bench::has_form(cases[i].kind, form) ? form : "";
    TSR_TRY(const bench::OpTime time, bench::time_op(device, cases[i], options));
    hand_out(cases[i], time, desc);
    if (time.wrong && wrong.empty()) wrong = cases[i].name + ": " + time.failed;
  }
  (void)report(progress, "ops", cases.size(), cases.size());
  if (!wrong.empty()) return Error{Code::mismatch, wrong};
  return {};
}

Result<void> run(Device& device, const tessera_rates_desc& desc) {
  const Progress progress = make_progress(desc.progress, desc.progress_user);
  const std::size_t count = rate_names().size();
  if (desc.device != nullptr)
    desc.device(desc.user, device.report().driver.c_str(), bench::has_gpu_clock(device));
  if (!report(progress, "rates", 0, count)) return Error{Code::cancelled, "measuring was cancelled"};
  bench::OpOptions options;
  if (desc.samples != 0) options.samples = desc.samples;
  std::size_t measured = 0;
  TSR_TRY(const std::vector<bench::FormTime> forms,
          bench::measure_rates(device, options, [&](const bench::FormTime& form) {
            hand_out(form, desc);
            return report(progress, "rates", ++measured, count);
          }));
  for (const bench::FormTime& form : forms)
    if (form.time.wrong) return Error{Code::mismatch, form.name + ": " + form.time.failed};
  return {};
}

Result<void> run(Device& device, const tessera_forms_desc& desc) {
  const Progress progress = make_progress(desc.progress, desc.progress_user);
  TSR_TRY(std::vector<bench::OpCase> cases, wanted_cases(desc));
  std::erase_if(cases, [](const bench::OpCase& c) { return bench::forms_of(c.kind).empty(); });
  if (cases.empty()) return Error{Code::invalid_argument, "no op with several forms has such a name"};
  TSR_TRY(const bench::Peaks peaks, bench::measure_peaks(device));
  if (desc.device != nullptr)
    desc.device(desc.user, device.report().driver.c_str(), bench::has_gpu_clock(device));
  bench::OpOptions options;
  if (desc.samples != 0) options.samples = desc.samples;
  std::string wrong;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    if (!report(progress, "forms", i, cases.size())) return Error{Code::cancelled, "benchmark cancelled"};
    if (const bench::OpTime skipped = too_slow(cases[i], peaks); !skipped.failed.empty()) {
      for (const std::string_view form : bench::forms_of(cases[i].kind))
        hand_out(cases[i], {std::string(form), skipped}, desc);
      continue;
    }
    TSR_TRY(const std::vector<bench::FormRun> forms, bench::compare_forms(device, cases[i], options));
    for (const bench::FormRun& form : forms) {
      hand_out(cases[i], form, desc);
      if (form.time.wrong && wrong.empty())
        wrong = cases[i].name + ", " + form.form + ": " + form.time.failed;
    }
  }
  (void)report(progress, "forms", cases.size(), cases.size());
  if (!wrong.empty()) return Error{Code::mismatch, wrong};
  return {};
}

}  // namespace

extern "C" tessera_status tessera_bench_forms(tessera_context* context, const tessera_forms_desc* desc,
                                              tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(context, "context"));
    TSR_TRY(const tessera_forms_desc d, sized(desc, "tessera_forms_desc"));
    if (context->device == nullptr)
      return Error{Code::invalid_argument, "the reference has no forms of kernels: choose a Vulkan device"};
    return run(*context->device, d);
  });
}

extern "C" tessera_status tessera_bench_ops(tessera_context* context, const tessera_bench_desc* desc,
                                            tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(context, "context"));
    TSR_TRY(const tessera_bench_desc d, sized(desc, "tessera_bench_desc"));
    if (context->device == nullptr)
      return Error{Code::invalid_argument, "the reference is not benchmarked: choose a Vulkan device"};
    return run(*context->device, d, context->glsl);
  });
}

extern "C" tessera_status tessera_measure_rates(tessera_context* context, const tessera_rates_desc* desc,
                                                tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(context, "context"));
    TSR_TRY(const tessera_rates_desc d, sized(desc, "tessera_rates_desc"));
    if (context->device == nullptr)
      return Error{Code::invalid_argument, "the reference has no forms of kernels: choose a Vulkan device"};
    return run(*context->device, d);
  });
}
