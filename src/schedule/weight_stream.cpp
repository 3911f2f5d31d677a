#include "schedule/weight_stream.h"

#include <algorithm>
#include <cstring>

namespace tessera {
namespace {

constexpr std::uint64_t kStagingBytes = 16u << 20;  // of each of two, at most, but for longer rows
constexpr std::uint64_t kUploadBytes = 16u << 20;   // of one upload that is waited for

}  // namespace

Result<WeightStream::Slot*> WeightStream::free_slot() {
  for (Slot& slot : slots_) {
    TSR_TRY(const bool ended, device_.wait(slot.value, 0, Lane::transfer));
    if (ended) return &slot;
  }
  return nullptr;
}

Result<void> WeightStream::more(std::span<const std::unique_ptr<Buffer>> buffers, std::uint64_t bytes) {
  TSR_TRY(Slot* const slot, free_slot());
  if (slot == nullptr || done() == total()) return {};
  const WeightRows::Position before = rows_.position();
  auto brought = bring(*slot, buffers, std::clamp<std::uint64_t>(bytes, 1, total() - done()));
  if (!brought.ok()) rows_.go_back(before);
  return brought;
}

Result<void> WeightStream::all(std::span<const std::unique_ptr<Buffer>> buffers, const Progress& progress) {
  while (done() < total()) {
    const WeightRows::Position before = rows_.position();
    TSR_TRY(const WeightRows::Rows rows, rows_.next(kUploadBytes));
    if (auto uploaded = device_.upload(*buffers[rows.buffer], rows.offset, rows.bytes); !uploaded.ok()) {
      rows_.go_back(before);
      return uploaded;
    }
    if (!report(progress, "weights", done(), total()))
      return Error{Code::cancelled, "cancelled while loading weights"};
  }
  return {};
}

Result<void> WeightStream::bring(Slot& slot, std::span<const std::unique_ptr<Buffer>> buffers,
                                 std::uint64_t bytes) {
  const std::uint64_t until = done() + bytes;
  std::uint64_t used = 0;  // of staging
  copies_.clear();
  while (done() < until) {
    const WeightRows::Position before = rows_.position();
    const std::uint64_t room = std::min(until - done(), kStagingBytes - std::min(used, kStagingBytes));
    TSR_TRY(const WeightRows::Rows rows, rows_.next(room));
    Buffer& to = *buffers[rows.buffer];
    if (!to.mapped().empty()) {
      std::memcpy(to.mapped().data() + rows.offset, rows.bytes.data(), rows.bytes.size());
      continue;
    }
    const std::uint64_t size = rows.bytes.size();
    const std::uint64_t wanted = std::max(std::min(until - before.done, kStagingBytes), size);
    if (used == 0 && (!slot.staging || slot.staging->size() < wanted)) {
      slot.staging.reset();
      TSR_TRY(slot.staging, device_.create_buffer(wanted, Memory::upload, "staging of weights"));
    }
    if (used + size > slot.staging->size()) {
      rows_.go_back(before);
      break;
    }
    std::memcpy(slot.staging->mapped().data() + used, rows.bytes.data(), size);
    copies_.push_back({&to, used, rows.offset, size});
    used += size;
  }
  return copies_.empty() ? Result<void>() : submit(slot);
}

Result<void> WeightStream::submit(Slot& slot) {
  TSR_TRY(slot.commands, device_.create_command_list(0, Lane::transfer));
  for (const Copy& copy : copies_)
    slot.commands->copy(*slot.staging, copy.from, *copy.to, copy.offset, copy.bytes);
  TSR_CHECK(slot.commands->finish());
  const CommandList* list = slot.commands.get();
  TSR_TRY(slot.value, device_.submit({&list, 1}, Lane::transfer));
  latest_ = slot.value;
  return {};
}

}  // namespace tessera
