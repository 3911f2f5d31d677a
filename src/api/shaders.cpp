// tessera_shaders: the default pipelines through the driver's eyes.
#include <nlohmann/json.hpp>

#include "api/handles.h"
#include "kernels/default_variants.h"
#include "kernels/target.h"
#include "tessera/tessera_tools.h"

using namespace tessera;
using namespace tessera::api;

namespace {

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

std::string kernel_name(const Variant& v) {
  return v.dispatch ? std::string(kernel(v.dispatch->kernel).name) : v.family;
}

void hand_out(const std::vector<PipelineExecutable>& executables, const tessera_shader_sink& sink) {
  for (std::uint32_t i = 0; i < executables.size(); ++i) {
    if (sink.statistic != nullptr)
      for (const PipelineStatistic& s : executables[i].statistics) {
        const std::string json = std::visit([](auto value) { return nlohmann::json(value).dump(); }, s.value);
        sink.statistic(sink.user, i, s.name.c_str(), json.c_str());
      }
    if (sink.text != nullptr)
      for (const PipelineText& t : executables[i].texts)
        sink.text(sink.user, i, t.name.c_str(), t.text.c_str());
  }
}

Result<void> inspect(Device& device, const Variant& variant, const tessera_shader_sink& sink) {
  std::vector<PipelineExecutable> executables;
  std::string failed;
  if (variant.dispatch) {
    auto made = device.inspect_pipeline(pipeline_desc(*variant.dispatch), sink.texts != 0);
    if (made)
      executables = *std::move(made);
    else if (made.error().code == Code::device_lost)
      return made.error();
    else
      failed = made.error().message;
  } else {
    failed = variant.dispatch.error().message;
  }
  const PipelineFigures figures = summarise(executables);
  const std::string name = kernel_name(variant);
  tessera_shader_info info{};
  info.size = sizeof(info);
  info.kernel = name.c_str();
  info.variant = variant.name.c_str();
  info.failed = failed.c_str();
  if (!executables.empty()) info.subgroup_size = executables.back().subgroup_size;
  info.registers = figures.registers.value_or(-1);
  info.spills = figures.spills.value_or(-1);
  info.scratch_bytes = figures.scratch_bytes.value_or(-1);
  info.shared_bytes = figures.shared_bytes.value_or(-1);
  info.instructions = figures.instructions.value_or(-1);
  info.cycles = figures.cycles.value_or(-1);
  if (sink.pipeline != nullptr) sink.pipeline(sink.user, &info);
  hand_out(executables, sink);
  return {};
}

}  // namespace

extern "C" tessera_status tessera_shaders(const tessera_context_desc* desc, const tessera_shader_sink* sink,
                                          tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_TRY(const tessera_context_desc d, sized(desc, "tessera_context_desc"));
    TSR_TRY(const tessera_shader_sink s, sized(sink, "tessera_shader_sink"));
    if (asks_for_reference(d))
      return Error{Code::invalid_argument, "the reference has no shaders: choose a Vulkan device"};
    tessera_context context;
    TSR_CHECK(open_device(d, context));
    const DeviceReport& report = context.device->report();
    const bool available = report.caps.executable_properties;
    if (s.device != nullptr) s.device(s.user, report.name.c_str(), report.driver.c_str(), available);
    if (!available) return {};
    const std::string filter = lower(s.filter == nullptr ? "" : s.filter);
    for (const Variant& v : default_variants(target_of(*context.device)))
      if (lower(kernel_name(v) + " " + v.name).find(filter) != std::string::npos)
        TSR_CHECK(inspect(*context.device, v, s));
    return {};
  });
}
