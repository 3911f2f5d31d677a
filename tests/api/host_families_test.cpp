// Which queue families buffers belong to, on a device that has a second one, which only copies.
#include <algorithm>

#include "host_fixture.h"
#include "op_call.h"

namespace tessera::test {
namespace {

// A family more than the driver has. What goes to it is done by the host's queue.
class SecondFamily {
 public:
  struct Made {  // a buffer as the library asked for it
    VkSharingMode sharing;
    std::vector<std::uint32_t> families;
    std::uint64_t bytes;
  };
  static void install() {
    made_.clear();
    VulkanTable::replace("vkGetPhysicalDeviceQueueFamilyProperties",
                         reinterpret_cast<PFN_vkVoidFunction>(list));
    VulkanTable::replace("vkCreateBuffer", reinterpret_cast<PFN_vkVoidFunction>(create_buffer));
    VulkanTable::replace("vkCreateCommandPool", reinterpret_cast<PFN_vkVoidFunction>(create_pool));
  }
  static std::uint32_t index() { return index_; }
  static std::vector<Made> take_made() { return std::exchange(made_, {}); }

 private:
  static VKAPI_ATTR void VKAPI_CALL list(VkPhysicalDevice device, std::uint32_t* count,
                                         VkQueueFamilyProperties* out) {
    const auto real = VulkanTable::real<PFN_vkGetPhysicalDeviceQueueFamilyProperties>(
        "vkGetPhysicalDeviceQueueFamilyProperties");
    real(device, &index_, nullptr);
    if (out) {
      real(device, &index_, out);
      out[index_] = {};
      out[index_].queueFlags = VK_QUEUE_TRANSFER_BIT;
      out[index_].queueCount = 1;
    }
    *count = index_ + 1;
  }
  static VKAPI_ATTR VkResult VKAPI_CALL create_buffer(VkDevice device, const VkBufferCreateInfo* info,
                                                      const VkAllocationCallbacks* allocator, VkBuffer* out) {
    made_.push_back({info->sharingMode,
                     {info->pQueueFamilyIndices, info->pQueueFamilyIndices + info->queueFamilyIndexCount},
                     info->size});
    VkBufferCreateInfo possible = *info;
    possible.sharingMode = VK_SHARING_MODE_EXCLUSIVE;
    possible.queueFamilyIndexCount = 0;
    return VulkanTable::real<PFN_vkCreateBuffer>("vkCreateBuffer")(device, &possible, allocator, out);
  }
  static VKAPI_ATTR VkResult VKAPI_CALL create_pool(VkDevice device, const VkCommandPoolCreateInfo* info,
                                                    const VkAllocationCallbacks* allocator,
                                                    VkCommandPool* out) {
    VkCommandPoolCreateInfo possible = *info;
    if (possible.queueFamilyIndex == index_) possible.queueFamilyIndex = host_family;
    return VulkanTable::real<PFN_vkCreateCommandPool>("vkCreateCommandPool")(device, &possible, allocator,
                                                                             out);
  }
  inline static std::uint32_t index_ = 0;
  inline static std::vector<Made> made_;

 public:
  inline static std::uint32_t host_family = 0;
};

class HostFamilies : public HostTest {
 protected:
  void SetUp() override {
    HostTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    open();
    SecondFamily::install();
    SecondFamily::host_family = host_.queue_family;
    std::uint32_t count = 0;
    TSR_HOST_CALL(host_, GetPhysicalDeviceQueueFamilyProperties)(host_.physical, &count, nullptr);
    const tessera_context_desc desc = on_host();
    host_desc_.transfer_queue = reinterpret_cast<VkQueue>(this);  // only a name: submit() takes the other one
    host_desc_.transfer_queue_family = SecondFamily::index();
    host_desc_.queue_user = this;
    host_desc_.submit = [](void* user, VkQueue_T*, const VkSubmitInfo* info) -> int32_t {
      auto& self = *static_cast<HostFamilies*>(user);
      return TSR_HOST_CALL(self.host_, QueueSubmit)(self.host_.queue, 1, info, VK_NULL_HANDLE);
    };
    context_ = take(Context::create(desc));
    ASSERT_NE(context_.get(), nullptr);
  }
  void TearDown() override {
    context_ = Context();
    HostTest::TearDown();
  }
  // Bytes of those that both queues use; the others belong to one.
  static std::uint64_t shared_bytes(const std::vector<SecondFamily::Made>& made) {
    std::uint64_t sum = 0;
    for (const SecondFamily::Made& buffer : made) {
      if (buffer.sharing == VK_SHARING_MODE_EXCLUSIVE) continue;
      EXPECT_THAT(buffer.families,
                  testing::UnorderedElementsAre(SecondFamily::host_family, SecondFamily::index()));
      sum += buffer.bytes;
    }
    return sum;
  }
  static bool is_shared(const SecondFamily::Made& buffer) {
    return buffer.sharing == VK_SHARING_MODE_CONCURRENT;
  }

  Context context_;
};

TEST_P(HostFamilies, WeightsBelongToBothAndNothingElseDoes) {
  const Ids wanted = expected();
  const Model model = take(context_.load(kQwen2));
  auto desc = init<tessera_session_desc>();
  desc.context = 64;
  desc.stream_bytes = 100'000;
  SecondFamily::take_made();
  Session session = take(model.session(desc));
  std::vector<SecondFamily::Made> made = SecondFamily::take_made();
  const auto weights = std::ranges::count_if(made, is_shared);
  const std::uint64_t bytes = shared_bytes(made);
  EXPECT_GE(bytes, session.stats().weight_bytes);
  EXPECT_GE(weights, 1);
  EXPECT_GT(std::ssize(made) - weights, 3);  // inputs, caches, the arena, ...

  EXPECT_TRUE(session.append(take(model.tokenize(kPrompt))));
  for (int round = 0; round < 2; ++round) {
    for (bool loaded = false; !loaded;) {
      const tessera_step_result r = take(session.step());
      loaded = r.loaded_bytes == r.total_bytes;
    }
    Ids ids;
    for (int i = 0; i < 2; ++i) ids.push_back(take(session.next()));
    EXPECT_EQ(ids, Ids(wanted.begin() + 2 * round, wanted.begin() + 2 * round + 2));
    made = SecondFamily::take_made();
    EXPECT_EQ(shared_bytes(made), round == 0 ? 0 : bytes);
    take(session.release_weights());
  }
}

TEST_P(HostFamilies, BindingsBelongToOne) {
  const OpCall call{"attention",
                    {shape_of("Q", "F32", {1, 8, 1, 64}), shape_of("K", "F16", {1, 2, 4096, 64}),
                     shape_of("V", "F16", {1, 2, 4096, 64})}};
  const OpPlan plan = take(plan_of(context_, call));
  const Planned planned = describe(plan);
  EXPECT_GT(planned.scratch_bytes, 0u);
  std::vector<tessera_bound_range> ranges;
  for (const PlannedTensor& t : planned.tensors) {
    if (t.optional) continue;
    ranges.push_back(init<tessera_bound_range>());
    ranges.back().name = t.name.c_str();
    ranges.back().buffer = host_.make_buffer(t.bytes).buffer;
  }
  auto slot = init<tessera_slot>();
  slot.tensors = ranges.data();
  slot.tensor_count = static_cast<std::uint32_t>(ranges.size());
  auto desc = init<tessera_bind_desc>();
  desc.slots = &slot;
  desc.slot_count = 1;
  SecondFamily::take_made();
  const OpBinding binding = take(plan.bind(desc));
  const std::vector<SecondFamily::Made> made = SecondFamily::take_made();
  EXPECT_EQ(made.size(), 2u);  // its own and the scratch
  EXPECT_EQ(std::ranges::count_if(made, is_shared), 0);
}

TSR_ON_HOST(HostFamilies);

}  // namespace
}  // namespace tessera::test
