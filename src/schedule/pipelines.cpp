#include "schedule/pipelines.h"

#include <algorithm>
#include <mutex>
#include <new>

namespace tessera {
namespace {

// A pipeline to be made by a job.
struct Request {
  PipelineDesc desc;
  std::shared_ptr<Pipeline> pipeline;  // set when made
};

// On a thread of the host's, through which nothing may be thrown.
Result<std::shared_ptr<Pipeline>> create(Device& device, const PipelineDesc& desc) {
  try {
    return device.create_pipeline(desc);
  } catch (const std::bad_alloc&) {
    return Error{Code::out_of_memory, {}};
  }
}

Result<void> run(Device& device, std::vector<Request>& requests, const RunJobs& run_jobs,
                 const Progress& progress) {
  std::mutex mutex;  // of `failed`, `done` and the progress callback
  Error failed{Code::ok, {}};
  std::uint64_t done = 0;
  const auto job = [&](std::uint32_t i) {
    {
      const std::lock_guard lock(mutex);
      if (failed.code == Code::ok && !report(progress, "pipelines", done, requests.size()))
        failed = {Code::cancelled, "cancelled while making pipelines"};
      if (failed.code != Code::ok) return;
    }
    auto made = create(device, requests[i].desc);
    const std::lock_guard lock(mutex);
    ++done;
    if (made)
      requests[i].pipeline = *std::move(made);
    else if (failed.code == Code::ok)
      failed = made.error();
  };
  const auto count = static_cast<std::uint32_t>(requests.size());
  if (run_jobs)
    run_jobs(count, job);
  else
    for (std::uint32_t i = 0; i < count; ++i) job(i);
  if (failed.code != Code::ok) return failed;
  for (const Request& r : requests)
    if (!r.pipeline)
      return Error{Code::internal, "pipeline '" + r.desc.name + "' was not made: run_jobs skipped it"};
  (void)report(progress, "pipelines", count, count);
  return {};
}

}  // namespace

Result<StepPipelines> make_pipelines(Device& device, std::span<const std::vector<Step>* const> lists,
                                     const RunJobs& run_jobs, const Progress& progress) {
  std::vector<Request> requests;
  std::vector<std::vector<std::size_t>> of_step(lists.size());
  for (std::size_t g = 0; g < lists.size(); ++g)
    for (const Step& step : *lists[g]) {
      const PipelineDesc desc = pipeline_desc(step.dispatch);
      const auto same =
          std::find_if(requests.begin(), requests.end(), [&](const Request& r) { return r.desc == desc; });
      of_step[g].push_back(static_cast<std::size_t>(same - requests.begin()));
      if (same == requests.end()) requests.push_back({desc, nullptr});
    }
  TSR_CHECK(run(device, requests, run_jobs, progress));
  StepPipelines out;
  out.distinct = static_cast<std::uint32_t>(requests.size());
  out.of.resize(lists.size());
  for (std::size_t g = 0; g < lists.size(); ++g)
    for (const std::size_t r : of_step[g]) out.of[g].push_back(requests[r].pipeline);
  return out;
}

}  // namespace tessera
