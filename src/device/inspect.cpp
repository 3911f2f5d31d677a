// VK_KHR_pipeline_executable_properties: what a driver says of its own code.
#include <algorithm>
#include <array>
#include <string_view>

#include "device/pipeline.h"

namespace tessera {
namespace {

PipelineStatistic statistic_of(const VkPipelineExecutableStatisticKHR& s) {
  PipelineStatistic out{s.name, false};
  switch (s.format) {
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_BOOL32_KHR: out.value = s.value.b32 != VK_FALSE; break;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR: out.value = std::int64_t{s.value.i64}; break;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_UINT64_KHR: out.value = std::uint64_t{s.value.u64}; break;
    default: out.value = s.value.f64; break;
  }
  return out;
}

double number(const PipelineStatistic& s) {
  return std::visit([](auto value) { return static_cast<double>(value); }, s.value);
}

// Names of Mesa's drivers, in order RADV, ANV, NVK, Turnip, lavapipe. Those of one row that a driver reports
// are added up; none reported: no figure.
struct Row {
  std::optional<double> PipelineFigures::*figure;
  std::array<std::string_view, 8> names;
};
constexpr std::array<Row, 6> kRows{{
    {&PipelineFigures::registers, {"VGPRs", "GRF registers", "Number of GPRs", "Registers used"}},
    {&PipelineFigures::spills,
     {"Spilled SGPRs", "Spilled VGPRs", "Spill Count", "Spills to memory", "STP Count"}},
    {&PipelineFigures::scratch_bytes, {"Scratch size", "Scratch Memory Size", "SLM Size"}},
    {&PipelineFigures::shared_bytes, {"LDS size", "Workgroup Memory Size", "Shared memory size"}},
    {&PipelineFigures::instructions, {"Instructions", "Instruction Count", "Instruction count"}},
    {&PipelineFigures::cycles, {"Inverse Throughput", "Cycle Count", "Static cycle count"}},
}};

}  // namespace

PipelineFigures summarise(std::span<const PipelineExecutable> executables) {
  PipelineFigures out;
  for (const PipelineExecutable& e : executables)
    for (const Row& row : kRows) {
      std::optional<double> sum;
      for (const PipelineStatistic& s : e.statistics)
        if (std::find(row.names.begin(), row.names.end(), s.name) != row.names.end())
          sum = sum.value_or(0) + number(s);
      std::optional<double>& figure = out.*row.figure;
      if (sum) figure = std::max(figure.value_or(0), *sum);
    }
  return out;
}

Result<std::vector<PipelineExecutable>> PipelineStore::inspect(const PipelineDesc& desc, bool texts) {
  if (!gpu_.physical.report.caps.executable_properties || !gpu_.vk.GetPipelineExecutablePropertiesKHR ||
      !gpu_.vk.GetPipelineExecutableStatisticsKHR)
    return Error{Code::unsupported, "the device lacks VK_KHR_pipeline_executable_properties"};
  TSR_CHECK(check(desc));
  PipelineImpl pipeline(gpu_, desc);
  TSR_CHECK(find_layouts(pipeline));
  // Without the cache: what comes from one has no statistics on some drivers.
  VkPipelineCreateFlags flags = VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR;
  if (texts) flags |= VK_PIPELINE_CREATE_CAPTURE_INTERNAL_REPRESENTATIONS_BIT_KHR;
  TSR_CHECK(compile(pipeline, VK_NULL_HANDLE, flags));
  VkPipelineInfoKHR info{VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR};
  info.pipeline = pipeline.handle();
  std::vector<VkPipelineExecutablePropertiesKHR> all;
  const VkPipelineExecutablePropertiesKHR blank{VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES_KHR};
  const VkResult r = read_all(all, blank, [&](std::uint32_t* count, VkPipelineExecutablePropertiesKHR* out) {
    return gpu_.vk.GetPipelineExecutablePropertiesKHR(gpu_.device, &info, count, out);
  });
  if (r != VK_SUCCESS) return gpu_.error(r, "properties of pipeline '" + desc.name + "'");
  std::vector<PipelineExecutable> out;
  for (std::uint32_t i = 0; i < all.size(); ++i) {
    TSR_TRY(PipelineExecutable e, executable(pipeline, i, all[i], texts));
    out.push_back(std::move(e));
  }
  return out;
}

Result<PipelineExecutable> PipelineStore::executable(const PipelineImpl& pipeline, std::uint32_t index,
                                                     const VkPipelineExecutablePropertiesKHR& properties,
                                                     bool texts) {
  const std::string what = "statistics of pipeline '" + pipeline.desc().name + "'";
  PipelineExecutable out{properties.name, properties.subgroupSize, {}, {}};
  VkPipelineExecutableInfoKHR info{VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR};
  info.pipeline = pipeline.handle();
  info.executableIndex = index;
  std::vector<VkPipelineExecutableStatisticKHR> statistics;
  const VkPipelineExecutableStatisticKHR blank{VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR};
  VkResult r = read_all(statistics, blank, [&](std::uint32_t* count, VkPipelineExecutableStatisticKHR* list) {
    return gpu_.vk.GetPipelineExecutableStatisticsKHR(gpu_.device, &info, count, list);
  });
  if (r != VK_SUCCESS) return gpu_.error(r, what);
  for (const auto& s : statistics) out.statistics.push_back(statistic_of(s));
  if (!texts || !gpu_.vk.GetPipelineExecutableInternalRepresentationsKHR) return out;

  // Twice: sizes, then contents.
  std::vector<VkPipelineExecutableInternalRepresentationKHR> list;
  const VkPipelineExecutableInternalRepresentationKHR empty{
      VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INTERNAL_REPRESENTATION_KHR};
  const auto read = [&](std::uint32_t* count, VkPipelineExecutableInternalRepresentationKHR* to) {
    return gpu_.vk.GetPipelineExecutableInternalRepresentationsKHR(gpu_.device, &info, count, to);
  };
  r = read_all(list, empty, read);
  if (r != VK_SUCCESS) return gpu_.error(r, what);
  std::vector<std::string> contents(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    contents[i].resize(list[i].dataSize);
    list[i].pData = contents[i].data();
  }
  auto count = static_cast<std::uint32_t>(list.size());
  if (count != 0) r = read(&count, list.data());
  if (r != VK_SUCCESS && r != VK_INCOMPLETE) return gpu_.error(r, what);
  for (std::size_t i = 0; i < count; ++i) {
    if (!list[i].isText) continue;
    out.texts.push_back({list[i].name, contents[i].substr(0, contents[i].find('\0'))});
  }
  return out;
}

}  // namespace tessera
