// Steps with their pipelines and descriptor sets: ready to be recorded, any number of times.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "schedule/slices.h"

namespace tessera {

struct BoundSteps {
  std::vector<std::shared_ptr<Pipeline>> pipelines;  // by step
  std::vector<std::unique_ptr<BindingSet>> sets;     // by step
};

// Makes the sets of `bound`, whose pipelines are there; `buffers` by BufferId.
Result<void> bind_steps(Device& device, const std::vector<Step>& steps,
                        std::span<const std::unique_ptr<Buffer>> buffers, BoundSteps& bound);

// Records a piece, after its barrier.
void record_piece(CommandList& commands, const std::vector<Step>& steps, const BoundSteps& bound,
                  const Piece& piece);

}  // namespace tessera
