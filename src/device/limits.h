// What a device can do, as plain data: the only thing that kernel choice and planning look at.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace tessera {

// Numbers from the driver. An override may lower each one down to the floor (the values below, or 1 where
// noted), except: min_storage_alignment may only be raised, to a power of two; subgroup_size and
// min_subgroup_size are what the hardware does and stay; timestamp_ns may only become 0.
struct Limits {
  std::uint64_t max_storage_range = 128u << 20;  // bytes one storage-buffer binding may cover; floor 1 MiB
  std::uint64_t max_buffer_size = 1u << 30;      // bytes of one VkBuffer and its allocation; floor 1 MiB
  std::uint32_t min_storage_alignment = 256;     // offset of a binding is a multiple of this; at least 16
  // Storage buffers of one pipeline; 1.2 alone promises 4, every driver that was looked at has 30 or more.
  std::uint32_t max_bindings = 16;
  std::uint32_t max_group_invocations = 128;
  std::array<std::uint32_t, 3> max_group_size{128, 128, 64};
  std::array<std::uint32_t, 3> max_group_count{65535, 65535, 65535};  // floor 1: tests cut grids with it
  std::uint32_t max_shared_bytes = 16384;
  std::uint32_t max_push_bytes = 128;
  std::uint32_t subgroup_size = 1;      // the driver's default
  std::uint32_t min_subgroup_size = 1;  // equal to subgroup_size without size control
  std::uint32_t max_subgroup_size = 1;
  // Loops of one invocation in total, after which the driver ends them all, silently; floor 1024.
  std::uint32_t max_loop_iterations = 0xffffffff;
  float timestamp_ns = 0;  // nanoseconds a tick; 0: no timestamps on the compute queue
};

// Everything above the floor (Vulkan 1.2 with nothing optional); each may be switched off by an override.
struct Caps {
  bool storage16 = false;            // storageBuffer16BitAccess
  bool storage8 = false;             // storageBuffer8BitAccess
  bool fp16 = false;                 // shaderFloat16
  bool int8 = false;                 // shaderInt8
  bool subgroup_arithmetic = false;  // in compute
  bool subgroup_shuffle = false;
  bool subgroup_clustered = false;
  bool subgroup_size_control = false;
  bool int_dot = false;       // VK_KHR_shader_integer_dot_product
  bool int_dot_fast = false;  // and packed signed 4x8 is accelerated
  bool coopmat = false;       // VK_KHR_cooperative_matrix
  bool coopmat2 = false;      // VK_NV_cooperative_matrix2
  bool bf16 = false;          // VK_KHR_shader_bfloat16
  bool software = false;  // VK_PHYSICAL_DEVICE_TYPE_CPU: lanes are vector elements, every load is per lane
  bool memory_budget = false;
  bool executable_properties = false;
  bool push_descriptor = false;
  bool global_priority = false;
};

// One "name=value" of --cap. Names are the members above, with _x, _y or _z for one dimension of an array; a
// capability takes 0 or 1. A size may end in k, m or g (KiB, MiB, GiB).
struct CapOverride {
  std::string name;
  std::uint64_t value = 0;
};
Result<CapOverride> parse_cap_override(std::string_view text);
// Applies them in order, all or (on an error) none. invalid_argument for an unknown name, for one that would
// raise what the device has, and for a value below the floor. Without subgroup_size_control, the subgroup
// sizes become subgroup_size; without coopmat there is no coopmat2, without int_dot no int_dot_fast.
Result<void> apply(std::span<const CapOverride> overrides, Limits& limits, Caps& caps);

// Every member as (name, value), in declaration order, for listings.
struct NamedValue {
  std::string name;
  double value;
  bool is_cap;
  bool chooses;  // may decide which kernels run; what is left is of the queue, or for reports
};
std::vector<NamedValue> list(const Limits& limits, const Caps& caps);

}  // namespace tessera
