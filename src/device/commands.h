#pragma once

#include "device/binding.h"
#include "device/queue.h"

namespace tessera {

// Each list has its own pool, so different lists may be recorded by different threads at once.
class CommandListImpl final : public CommandList {
 public:
  CommandListImpl(Gpu& gpu, Queue& queue) : gpu_(gpu), queue_(queue) {}
  ~CommandListImpl() override;
  CommandListImpl(const CommandListImpl&) = delete;
  CommandListImpl& operator=(const CommandListImpl&) = delete;
  static Result<std::unique_ptr<CommandListImpl>> create(Gpu& gpu, Queue& queue,
                                                         std::uint32_t timestamp_count);

  void dispatch(const Pipeline& pipeline, const BindingSet& set, std::span<const std::uint32_t> push,
                std::array<std::uint32_t, 3> base, std::array<std::uint32_t, 3> count) override;
  void barrier() override;
  void barrier_to_host() override;
  void copy(const Buffer& from, std::uint64_t from_offset, const Buffer& to, std::uint64_t to_offset,
            std::uint64_t bytes) override;
  void fill(const Buffer& buffer, std::uint64_t offset, std::uint64_t bytes, std::uint32_t word) override;
  void timestamp(std::uint32_t index) override;
  Result<void> finish() override;
  Result<void> timestamps(std::span<double> ns) override;

  VkCommandBuffer handle() const { return commands_; }
  bool finished() const { return finished_; }
  void submitted(std::uint64_t value) const { last_submission_ = value; }

 private:
  bool refuse(bool bad, const char* why);
  void record_barrier(VkPipelineStageFlags to_stages, VkAccessFlags to_access);

  Gpu& gpu_;
  Queue& queue_;
  VkCommandPool pool_ = VK_NULL_HANDLE;
  VkCommandBuffer commands_ = VK_NULL_HANDLE;
  VkQueryPool queries_ = VK_NULL_HANDLE;
  std::vector<bool> written_;  // which timestamps
  std::vector<std::uint64_t> ticks_;
  bool finished_ = false;
  std::string misuse_;  // the first one; finish() returns it
  mutable std::atomic<std::uint64_t> last_submission_ = 0;
};

inline const CommandListImpl& impl(const CommandList& l) { return static_cast<const CommandListImpl&>(l); }

}  // namespace tessera
