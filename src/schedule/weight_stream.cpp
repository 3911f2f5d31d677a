#include "schedule/weight_stream.h"

#include <algorithm>
#include <cstring>

namespace tessera {
namespace {

constexpr std::uint64_t kStagingBytes = 4u << 20;  // of each of two
constexpr std::uint64_t kUploadBytes = 16u << 20;  // of one upload that is waited for

}  // namespace

Result<WeightStream::Slot*> WeightStream::free_slot() {
  for (Slot& slot : slots_) {
    TSR_TRY(const bool ended, device_.wait(slot.value, 0, Lane::transfer));
    if (ended) return &slot;
  }
  return nullptr;
}

Result<void> WeightStream::more(std::span<const std::unique_ptr<Buffer>> buffers, std::uint64_t bytes) {
  const std::uint64_t until = std::min(total(), done() + std::max<std::uint64_t>(bytes, 1));
  while (done() < until) {
    TSR_TRY(Slot* const slot, free_slot());
    if (slot == nullptr) return {};
    TSR_TRY(const WeightRows::Rows rows, rows_.next(std::min(until - done(), kStagingBytes)));
    Buffer& to = *buffers[rows.buffer];
    if (to.mapped().empty())
      TSR_CHECK(copy(*slot, to, rows));
    else
      std::memcpy(to.mapped().data() + rows.offset, rows.bytes.data(), rows.bytes.size());
  }
  return {};
}

Result<void> WeightStream::all(std::span<const std::unique_ptr<Buffer>> buffers, const Progress& progress) {
  while (done() < total()) {
    TSR_TRY(const WeightRows::Rows rows, rows_.next(kUploadBytes));
    TSR_CHECK(device_.upload(*buffers[rows.buffer], rows.offset, rows.bytes));
    if (!report(progress, "weights", done(), total()))
      return Error{Code::cancelled, "cancelled while loading weights"};
  }
  return {};
}

Result<void> WeightStream::copy(Slot& slot, Buffer& to, const WeightRows::Rows& rows) {
  if (!slot.staging || slot.staging->size() < rows.bytes.size()) {  // a row may be longer
    TSR_TRY(slot.staging, device_.create_buffer(std::max<std::uint64_t>(kStagingBytes, rows.bytes.size()),
                                                Memory::upload, "staging of weights"));
  }
  std::memcpy(slot.staging->mapped().data(), rows.bytes.data(), rows.bytes.size());
  TSR_TRY(slot.commands, device_.create_command_list(0, Lane::transfer));
  slot.commands->copy(*slot.staging, 0, to, rows.offset, rows.bytes.size());
  TSR_CHECK(slot.commands->finish());
  const CommandList* list = slot.commands.get();
  TSR_TRY(slot.value, device_.submit({&list, 1}, Lane::transfer));
  latest_ = slot.value;
  return {};
}

}  // namespace tessera
