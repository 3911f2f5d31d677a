#include <gmock/gmock.h>

#include "device/capabilities.h"

namespace tessera {
namespace {

using testing::HasSubstr;

DeviceReport report(std::uint32_t index, const char* name, DeviceType type, const char* refused = "") {
  DeviceReport r;
  r.index = index;
  r.name = name;
  r.type = type;
  r.refused = refused;
  return r;
}

const std::vector<DeviceReport> kMachine{
    report(0, "llvmpipe (LLVM 15)", DeviceType::cpu),
    report(1, "Iris Xe", DeviceType::integrated),
    report(2, "Old Card 3000", DeviceType::discrete, "Vulkan 1.0; 1.2 is needed"),
    report(3, "Card 9000", DeviceType::discrete),
    report(4, "Card 9000", DeviceType::discrete),
    report(5, "Virtio", DeviceType::virtual_gpu),
};

std::string refusal(std::span<const DeviceReport> reports, const std::string& wanted) {
  const auto result = pick_device(reports, wanted);
  if (result) return "picked " + std::to_string(*result);
  EXPECT_EQ(result.error().code, Code::no_device);
  return result.error().message;
}

TEST(PickDevice, OrderOfTypes) {
  std::vector<DeviceReport> left = kMachine;
  for (const std::uint32_t expected : {3u, 4u, 1u, 5u, 0u}) {
    ASSERT_EQ(*pick_device(left, ""), expected);
    std::erase_if(left, [&](const DeviceReport& r) { return r.index == expected; });
  }
  EXPECT_THAT(refusal(left, ""), HasSubstr("2 Old Card 3000 (refused: Vulkan 1.0; 1.2 is needed)"));
  EXPECT_THAT(refusal({}, ""), HasSubstr("no Vulkan device was found"));
}

TEST(PickDevice, ByIndexOrName) {
  EXPECT_EQ(*pick_device(kMachine, "0"), 0u);
  EXPECT_EQ(*pick_device(kMachine, "LLVMPIPE"), 0u);
  EXPECT_EQ(*pick_device(kMachine, "card"), 3u);
  EXPECT_FALSE(pick_device(kMachine, "9000").ok());  // digits are an index, never a part of a name
  EXPECT_THAT(refusal(kMachine, "2"), HasSubstr("Vulkan 1.0"));
  EXPECT_THAT(refusal(kMachine, "old"), HasSubstr("no usable device matches 'old'"));
  EXPECT_THAT(refusal(kMachine, "6"), HasSubstr("Iris Xe"));
}

TEST(Floor, RefusesWhatIsBelow) {
  Limits limits;
  EXPECT_EQ(below_floor(limits, VK_API_VERSION_1_2), "");
  EXPECT_THAT(below_floor(limits, VK_API_VERSION_1_1), HasSubstr("Vulkan 1.1; 1.2 is needed"));
  limits.max_group_invocations = 64;
  EXPECT_THAT(below_floor(limits, VK_API_VERSION_1_2), HasSubstr("64 invocations"));
  limits = {};
  limits.max_shared_bytes = 8192;
  EXPECT_THAT(below_floor(limits, VK_API_VERSION_1_2), HasSubstr("8192 bytes of shared memory"));
}

}  // namespace
}  // namespace tessera
