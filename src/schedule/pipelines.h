// The pipelines of lists of steps, as independent jobs.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/log.h"
#include "schedule/steps.h"

namespace tessera {

// Runs job(0) ... job(count-1), each once, on any threads; returns when all have ended.
using RunJobs = std::function<void(std::uint32_t count, const std::function<void(std::uint32_t)>& job)>;

struct StepPipelines {
  std::vector<std::vector<std::shared_ptr<Pipeline>>> of;  // by list, by step
  std::uint32_t distinct = 0;
};

// Equal ones are made once. Without run_jobs on the calling thread; progress has the stage "pipelines" and
// cancels.
Result<StepPipelines> make_pipelines(Device& device, std::span<const std::vector<Step>* const> lists,
                                     const RunJobs& run_jobs, const Progress& progress);

}  // namespace tessera
