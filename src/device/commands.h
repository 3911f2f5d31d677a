#pragma once

#include "device/binding.h"
#include "device/queue.h"

namespace tessera {

// The calls that both kinds of recorder have.
template <typename Interface>
class RecorderImpl : public Interface {
 public:
  RecorderImpl(Gpu& gpu, bool computes) : gpu_(gpu), computes_(computes) {}

  void dispatch(const Pipeline& pipeline, const BindingSet& set, std::span<const std::uint32_t> push,
                std::array<std::uint32_t, 3> base, std::array<std::uint32_t, 3> count) override;
  void barrier() override;
  void copy(const Buffer& from, std::uint64_t from_offset, const Buffer& to, std::uint64_t to_offset,
            std::uint64_t bytes) override;
  void fill(const Buffer& buffer, std::uint64_t offset, std::uint64_t bytes, std::uint32_t word) override;

 protected:
  bool refuse(bool bad, const char* why);
  void record_barrier(HostAccess from, HostAccess to);
  HostAccess writes() const;
  HostAccess all() const;

  Gpu& gpu_;
  const bool computes_;
  VkCommandBuffer commands_ = VK_NULL_HANDLE;
  bool finished_ = false;
  const char* misuse_ = nullptr;  // the first one
};

extern template class RecorderImpl<CommandList>;
extern template class RecorderImpl<HostRecorder>;

// Each list has its own pool, so different lists may be recorded by different threads at once.
class CommandListImpl final : public RecorderImpl<CommandList> {
 public:
  CommandListImpl(Gpu& gpu, Queue& queue) : RecorderImpl(gpu, queue.computes()), queue_(queue) {}
  ~CommandListImpl() override;
  CommandListImpl(const CommandListImpl&) = delete;
  CommandListImpl& operator=(const CommandListImpl&) = delete;
  static Result<std::unique_ptr<CommandListImpl>> create(Gpu& gpu, Queue& queue,
                                                         std::uint32_t timestamp_count);

  void barrier_to_host() override;
  void timestamp(std::uint32_t index) override;
  Result<void> finish() override;
  Result<void> timestamps(std::span<double> ns) override;

  VkCommandBuffer handle() const { return commands_; }
  bool finished() const { return finished_; }
  const Queue& queue() const { return queue_; }
  void submitted(std::uint64_t value) const { last_submission_ = value; }

 private:
  Queue& queue_;
  VkCommandPool pool_ = VK_NULL_HANDLE;
  VkQueryPool queries_ = VK_NULL_HANDLE;
  std::vector<bool> written_;  // which timestamps
  std::vector<std::uint64_t> ticks_;
  mutable std::atomic<std::uint64_t> last_submission_ = 0;
};

inline const CommandListImpl& impl(const CommandList& l) { return static_cast<const CommandListImpl&>(l); }

class HostRecorderImpl final : public RecorderImpl<HostRecorder> {
 public:
  HostRecorderImpl(Gpu& gpu, VkCommandBuffer commands) : RecorderImpl(gpu, true) { commands_ = commands; }
  void barrier_from(HostAccess host) override;
  void barrier_to(HostAccess host) override;
  Result<void> finish();
};

}  // namespace tessera
