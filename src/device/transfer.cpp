#include "device/transfer.h"

#include <algorithm>
#include <cstring>

namespace tessera {
namespace {

constexpr std::uint64_t kStagingBytes = 16u << 20;

Result<void> check_range(const char* what, const Buffer& buffer, std::uint64_t offset, std::uint64_t bytes) {
  if (offset <= buffer.size() && bytes <= buffer.size() - offset) return {};
  return Error{Code::invalid_argument, std::string(what) + ": offset " + std::to_string(offset) + ", " +
                                           std::to_string(bytes) + " bytes leave a buffer of " +
                                           std::to_string(buffer.size())};
}

}  // namespace

Result<void> Transfer::run(CommandListImpl& list) {
  TSR_CHECK(list.finish());
  const CommandList* lists[] = {&list};
  TSR_TRY(const std::uint64_t value, queue_.submit(lists, queue_, 0));
  for (;;) {
    TSR_TRY(const bool done, queue_.wait(value, 1'000'000'000));
    if (done) return {};
  }
}

Result<void> Transfer::make_visible_to_host() {
  TSR_TRY(auto list, CommandListImpl::create(gpu_, queue_, 0));
  list->barrier_to_host();
  return run(*list);
}

Result<Buffer*> Transfer::staging(std::unique_ptr<Buffer>& slot, Memory memory, std::uint64_t bytes) {
  const std::uint64_t size = std::min({bytes, kStagingBytes, gpu_.limits().max_buffer_size});
  if (!slot || slot->size() < size) {
    slot.reset();
    TSR_TRY(slot, BufferImpl::create(gpu_, size, memory, "staging", BufferLanes::one));
  }
  return slot.get();
}

Result<void> Transfer::upload(Buffer& to, std::uint64_t offset, std::span<const std::byte> bytes) {
  TSR_CHECK(check_range("upload", to, offset, bytes.size()));
  if (bytes.empty()) return {};
  if (gpu_.lost) return lost_error();
  const std::lock_guard lock(mutex_);
  if (!to.mapped().empty()) {
    if (queue_.latest() > 0) TSR_CHECK(make_visible_to_host());  // and wait for whatever reads it
    std::memcpy(to.mapped().data() + offset, bytes.data(), bytes.size());
    return {};
  }
  TSR_TRY(Buffer* const stage, staging(upload_, Memory::upload, bytes.size()));
  while (!bytes.empty()) {
    const std::size_t part = std::min<std::size_t>(bytes.size(), stage->size());
    std::memcpy(stage->mapped().data(), bytes.data(), part);
    TSR_TRY(auto list, CommandListImpl::create(gpu_, queue_, 0));
    list->barrier();
    list->copy(*stage, 0, to, offset, part);
    list->barrier();
    TSR_CHECK(run(*list));
    bytes = bytes.subspan(part);
    offset += part;
  }
  return {};
}

Result<void> Transfer::download(const Buffer& from, std::uint64_t offset, std::span<std::byte> bytes) {
  TSR_CHECK(check_range("download", from, offset, bytes.size()));
  if (bytes.empty()) return {};
  if (gpu_.lost) return lost_error();
  const std::lock_guard lock(mutex_);
  if (const std::byte* mapped = impl(from).bytes()) {
    if (queue_.latest() > 0) TSR_CHECK(make_visible_to_host());
    std::memcpy(bytes.data(), mapped + offset, bytes.size());
    return {};
  }
  TSR_TRY(Buffer* const stage, staging(readback_, Memory::readback, bytes.size()));
  while (!bytes.empty()) {
    const std::size_t part = std::min<std::size_t>(bytes.size(), stage->size());
    TSR_TRY(auto list, CommandListImpl::create(gpu_, queue_, 0));
    list->barrier();
    list->copy(from, offset, *stage, 0, part);
    list->barrier_to_host();
    TSR_CHECK(run(*list));
    std::memcpy(bytes.data(), stage->mapped().data(), part);
    bytes = bytes.subspan(part);
    offset += part;
  }
  return {};
}

}  // namespace tessera
