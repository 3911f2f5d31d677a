#include "device/memory.h"

#include <gmock/gmock.h>

namespace tessera {
namespace {

using testing::ElementsAre;

constexpr VkMemoryPropertyFlags kLocal = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
constexpr VkMemoryPropertyFlags kMapped =
    VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
constexpr VkMemoryPropertyFlags kCached = VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
constexpr std::uint64_t kGiB = 1u << 30;

VkPhysicalDeviceMemoryProperties machine(const std::vector<VkMemoryHeap>& heaps,
                                         const std::vector<VkMemoryType>& types) {
  VkPhysicalDeviceMemoryProperties m{};
  m.memoryHeapCount = static_cast<std::uint32_t>(heaps.size());
  m.memoryTypeCount = static_cast<std::uint32_t>(types.size());
  std::copy(heaps.begin(), heaps.end(), m.memoryHeaps);
  std::copy(types.begin(), types.end(), m.memoryTypes);
  return m;
}

constexpr std::uint32_t kAll = ~0u;

TEST(MemoryCandidates, DiscreteWithASmallWindow) {
  const auto m = machine({{8 * kGiB, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT},
                          {16 * kGiB, 0},
                          {256u << 20, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT}},
                         {{kLocal, 0}, {kMapped, 1}, {kMapped | kCached, 1}, {kLocal | kMapped, 2}});
  EXPECT_THAT(memory_candidates(m, kAll, Memory::device), ElementsAre(0));
  EXPECT_THAT(memory_candidates(m, kAll, Memory::shared), ElementsAre(3, 1, 2));
  EXPECT_THAT(memory_candidates(m, kAll, Memory::upload), ElementsAre(1, 2, 3));
  EXPECT_THAT(memory_candidates(m, kAll, Memory::readback), ElementsAre(2, 1, 3));
}

TEST(MemoryCandidates, DiscreteFullyMapped) {
  const auto m = machine({{16 * kGiB, 0}, {8 * kGiB, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT}},
                         {{kMapped, 0}, {kLocal, 1}, {kLocal | kMapped, 1}});
  EXPECT_THAT(memory_candidates(m, kAll, Memory::device), ElementsAre(2, 1));
}

TEST(MemoryCandidates, UnifiedMemory) {
  const auto m = machine({{256u << 20, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT}},
                         {{kLocal, 0}, {kLocal | kMapped | kCached, 0}});
  EXPECT_THAT(memory_candidates(m, kAll, Memory::device), ElementsAre(1, 0));
  EXPECT_THAT(memory_candidates(m, kAll, Memory::readback), ElementsAre(1));
}

TEST(MemoryCandidates, TypesForOtherUsesAreLeftAlone) {
  const auto m = machine({{8 * kGiB, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT}},
                         {{kLocal | VK_MEMORY_PROPERTY_PROTECTED_BIT, 0},
                          {kLocal | kMapped | VK_MEMORY_PROPERTY_DEVICE_COHERENT_BIT_AMD, 0},
                          {kLocal, 0},
                          {kLocal | kMapped, 0}});
  EXPECT_THAT(memory_candidates(m, kAll, Memory::device), ElementsAre(3, 2));
  EXPECT_THAT(memory_candidates(m, 0b0111, Memory::device), ElementsAre(2));
  EXPECT_TRUE(memory_candidates(m, 0b0111, Memory::shared).empty());
}

}  // namespace
}  // namespace tessera
