// Two devices as data: the least that Tessera runs on, and a desktop GPU.
#pragma once

#include "kernels/choose.h"

namespace tessera::test {

inline Target floor_target() {
  Target t;
  t.limits.max_storage_range = 1u << 20;
  t.limits.max_buffer_size = 16u << 20;
  return t;
}

inline Target desktop_target() {
  Target t;
  t.limits.max_buffer_size = std::uint64_t{4} << 30;
  t.limits.max_storage_range = (std::uint64_t{1} << 32) - 1;
  t.limits.min_storage_alignment = 16;
  t.limits.max_bindings = 1000;
  t.limits.max_group_invocations = 1024;
  t.limits.max_group_size = {1024, 1024, 64};
  t.limits.max_shared_bytes = 48 << 10;
  t.limits.subgroup_size = t.limits.min_subgroup_size = t.limits.max_subgroup_size = 32;
  t.caps.subgroup_arithmetic = t.caps.subgroup_shuffle = true;
  t.caps.storage16 = t.caps.fp16 = true;
  return t;
}

}  // namespace tessera::test
