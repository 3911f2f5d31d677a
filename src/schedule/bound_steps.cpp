#include "schedule/bound_steps.h"

namespace tessera {

Result<void> bind_steps(Device& device, const std::vector<Step>& steps,
                        std::span<const std::unique_ptr<Buffer>> buffers, BoundSteps& bound) {
  bound.sets.clear();
  for (std::size_t i = 0; i < steps.size(); ++i) {
    std::vector<BindingRange> ranges;
    for (const Range& r : steps[i].ranges) ranges.push_back({buffers[r.buffer].get(), r.offset, r.bytes});
    TSR_TRY(auto set, device.create_binding_set(*bound.pipelines[i], ranges));
    bound.sets.push_back(std::move(set));
  }
  return {};
}

void record_piece(CommandList& commands, const std::vector<Step>& steps, const BoundSteps& bound,
                  const Piece& piece) {
  if (piece.barrier_before) commands.barrier();
  commands.dispatch(*bound.pipelines[piece.step], *bound.sets[piece.step], steps[piece.step].dispatch.push,
                    piece.base, piece.count);
}

}  // namespace tessera
