// tessera_measure_rates: the forms of kernels that choices are between, through the C ABI.
#include "bench/rates.h"

#include "api/handles.h"
#include "kernels/choose.h"
#include "tessera/tessera_tools.h"

using namespace tessera;
using namespace tessera::api;

namespace {

void hand_out(const bench::FormTime& form, const tessera_rates_desc& desc) {
  if (desc.rate == nullptr) return;
  const bench::OpTime& time = form.time;
  const std::string setting = time.failed.empty() ? print(MeasuredRate{form.name, form.flops_per_s()}) : "";
  tessera_form_rate rate{};
  rate.size = sizeof(rate);
  rate.form = form.name.c_str();
  rate.shape = form.shape.name.c_str();
  rate.failed = time.failed.c_str();
  rate.wrong = time.wrong;
  rate.setting = setting.c_str();
  rate.flops = form.shape.flops();
  rate.samples = time.samples;
  rate.median_s = time.median_s;
  rate.min_s = time.min_s;
  rate.max_s = time.max_s;
  rate.checked = time.checked;
  rate.worst_ratio = time.worst_ratio;
  desc.rate(desc.user, &rate);
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

}  // namespace

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
