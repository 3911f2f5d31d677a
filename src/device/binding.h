#pragma once

#include <mutex>

#include "device/memory.h"
#include "device/pipeline.h"

namespace tessera {

// Descriptor pools, grown as sets are made. Thread-safe.
class SetPools {
 public:
  explicit SetPools(Gpu& gpu) : gpu_(gpu) {}
  ~SetPools();
  SetPools(const SetPools&) = delete;
  SetPools& operator=(const SetPools&) = delete;

  struct Set {
    VkDescriptorPool pool = VK_NULL_HANDLE;
    VkDescriptorSet set = VK_NULL_HANDLE;
  };
  Result<Set> allocate(VkDescriptorSetLayout layout, std::uint32_t bindings);
  void free(const Set& set);

 private:
  Gpu& gpu_;
  std::mutex mutex_;
  std::vector<VkDescriptorPool> pools_;  // the last one is tried first
};

class BindingSetImpl final : public BindingSet {
 public:
  BindingSetImpl(SetPools& pools, SetPools::Set set, std::uint32_t count)
      : pools_(pools), set_(set), count_(count) {}
  ~BindingSetImpl() override { pools_.free(set_); }
  BindingSetImpl(const BindingSetImpl&) = delete;
  BindingSetImpl& operator=(const BindingSetImpl&) = delete;
  static Result<std::unique_ptr<BindingSet>> create(Gpu& gpu, SetPools& pools, const Pipeline& pipeline,
                                                    std::span<const BindingRange> ranges);

  VkDescriptorSet handle() const { return set_.set; }
  std::uint32_t count() const { return count_; }

 private:
  SetPools& pools_;
  SetPools::Set set_;
  std::uint32_t count_;
};

inline const BindingSetImpl& impl(const BindingSet& s) { return static_cast<const BindingSetImpl&>(s); }

}  // namespace tessera
