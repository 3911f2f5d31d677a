#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <unordered_map>

#include "device/gpu.h"

namespace tessera {

class PipelineImpl final : public Pipeline {
 public:
  PipelineImpl(Gpu& gpu, const PipelineDesc& desc) : gpu_(gpu), desc_(desc) {}
  ~PipelineImpl() override;
  PipelineImpl(const PipelineImpl&) = delete;
  PipelineImpl& operator=(const PipelineImpl&) = delete;

  const PipelineDesc& desc() const { return desc_; }
  VkPipeline handle() const { return pipeline_; }
  VkPipelineLayout layout() const { return layout_; }
  VkDescriptorSetLayout set_layout() const { return set_layout_; }

 private:
  friend class PipelineStore;
  Gpu& gpu_;
  PipelineDesc desc_;
  VkPipeline pipeline_ = VK_NULL_HANDLE;
  VkPipelineLayout layout_ = VK_NULL_HANDLE;           // owned by the store
  VkDescriptorSetLayout set_layout_ = VK_NULL_HANDLE;  // owned by the store
};

inline const PipelineImpl& impl(const Pipeline& p) { return static_cast<const PipelineImpl&>(p); }

// Every pipeline of a device, made once while it is in use or among the latest. Thread-safe; no lock is held
// while the driver compiles.
class PipelineStore {
 public:
  // `blob`: unwrapped bytes for the driver; may be empty.
  PipelineStore(Gpu& gpu, std::vector<std::byte> blob) : gpu_(gpu), initial_(std::move(blob)) {}
  ~PipelineStore();
  PipelineStore(const PipelineStore&) = delete;
  PipelineStore& operator=(const PipelineStore&) = delete;

  Result<std::shared_ptr<Pipeline>> get(const PipelineDesc& desc);
  std::uint32_t made() const { return made_; }
  Result<std::vector<PipelineExecutable>> inspect(const PipelineDesc& desc, bool texts);
  Result<std::vector<std::byte>> cache_bytes();

 private:
  using Made = std::shared_ptr<PipelineImpl>;
  struct Slot {
    std::weak_ptr<PipelineImpl> pipeline;
    bool making = false;  // by one thread; the others wait
  };
  class Making;
  struct Hash {
    std::size_t operator()(const PipelineDesc& desc) const;
  };

  Result<void> check(const PipelineDesc& desc) const;
  Made find_or_claim(const PipelineDesc& desc);
  Made keep(Made pipeline);
  Result<Made> make(const PipelineDesc& desc);
  Result<void> compile(PipelineImpl& pipeline, VkPipelineCache cache, VkPipelineCreateFlags flags);
  Result<PipelineExecutable> executable(const PipelineImpl& pipeline, std::uint32_t index,
                                        const VkPipelineExecutablePropertiesKHR& properties, bool texts);
  Result<void> find_layouts(PipelineImpl& pipeline);
  Result<VkPipelineCache> driver_cache();

  Gpu& gpu_;
  std::mutex mutex_;  // guards all below but the counter
  std::vector<std::byte> initial_;
  VkPipelineCache cache_ = VK_NULL_HANDLE;  // made with the first pipeline
  std::unordered_map<PipelineDesc, Slot, Hash> slots_;
  std::condition_variable made_one_;
  std::deque<Made> latest_;  // those asked for last, from old to new: not to be made again at once
  std::map<std::uint32_t, VkDescriptorSetLayout> set_layouts_;                   // by binding count
  std::map<std::pair<std::uint32_t, std::uint32_t>, VkPipelineLayout> layouts_;  // and push bytes
  std::atomic<std::uint32_t> made_ = 0;
};

}  // namespace tessera
