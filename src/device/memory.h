#pragma once

#include "device/allocation.h"

namespace tessera {

// Memory types to try for `use`, best first, among those of `type_bits`.
std::vector<std::uint32_t> memory_candidates(const VkPhysicalDeviceMemoryProperties& memory,
                                             std::uint32_t type_bits, Memory use);

class BufferImpl final : public Buffer {
 public:
  explicit BufferImpl(Gpu& gpu) : gpu_(gpu) {}
  ~BufferImpl() override;
  BufferImpl(const BufferImpl&) = delete;
  BufferImpl& operator=(const BufferImpl&) = delete;
  static Result<std::unique_ptr<Buffer>> create(Gpu& gpu, std::uint64_t bytes, Memory use,
                                                const std::string& name, BufferLanes lanes);
  static Result<std::unique_ptr<Buffer>> adopt(Gpu& gpu, VkBuffer buffer, std::uint64_t bytes);

  std::uint64_t size() const override { return size_; }
  std::span<std::byte> mapped() override { return {memory_.mapped, memory_.mapped ? size_ : 0}; }
  const std::byte* bytes() const { return memory_.mapped; }  // null when not mapped
  VkBuffer handle() const { return buffer_; }

 private:
  Result<void> allocate(Memory use, const std::string& name);

  Gpu& gpu_;
  VkBuffer buffer_ = VK_NULL_HANDLE;
  bool adopted_ = false;
  Allocation memory_;
  std::uint64_t size_ = 0;
};

inline const BufferImpl& impl(const Buffer& b) { return static_cast<const BufferImpl&>(b); }

}  // namespace tessera
