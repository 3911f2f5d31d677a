#include "kernels/default_variants.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace tessera {
namespace {

Target desktop() {
  Target t;
  t.limits.max_storage_range = t.limits.max_buffer_size = 4294967280ull;
  t.limits.max_group_invocations = 1024;
  t.limits.max_group_size = {1024, 1024, 64};
  t.limits.max_shared_bytes = 49152;
  t.limits.subgroup_size = t.limits.min_subgroup_size = t.limits.max_subgroup_size = 32;
  t.limits.max_bindings = 1024;
  Caps& c = t.caps;
  c.storage16 = c.storage8 = c.fp16 = c.int8 = c.subgroup_arithmetic = c.subgroup_shuffle = true;
  c.subgroup_clustered = c.subgroup_size_control = c.int_dot = c.int_dot_fast = c.coopmat = c.coopmat2 =
      c.bf16 = true;
  t.matrices.max_dimension = 256;
  t.matrices.shapes = {
      {.m = 16, .n = 16, .k = 16, .a = MatrixType::f16, .c = MatrixType::f32},
      {.m = 16, .n = 16, .k = 16, .a = MatrixType::f16, .c = MatrixType::f16},
      {.m = 16, .n = 16, .k = 16, .a = MatrixType::f16, .c = MatrixType::f32, .flexible = true}};
  return t;
}

std::set<std::string_view> kernels_of(const Target& target) {
  std::set<std::string_view> out;
  for (const Variant& v : default_variants(target)) {
    EXPECT_TRUE(v.dispatch) << v.family << " " << v.name << ": " << v.dispatch.error().message;
    if (!v.dispatch) continue;
    EXPECT_EQ(missing_capability(v.dispatch->kernel, target.caps), "") << v.family << " " << v.name;
    out.insert(kernel(v.dispatch->kernel).name);
  }
  return out;
}

// No device picks all of them: two forms are for software drivers, and for matrices without f16 sums.
std::vector<Target> targets() {
  std::vector<Target> out{desktop(), desktop(), desktop(), Target{}};
  out[1].caps.software = true;
  out[1].caps.coopmat = out[1].caps.coopmat2 = false;
  out[2].caps.coopmat2 = false;
  out[2].matrices.shapes.resize(1);
  return out;
}

TEST(DefaultVariants, EveryKernelOfTheCatalogue) {
  std::set<std::string_view> listed;
  for (const Target& target : targets()) listed.merge(kernels_of(target));
  for (const Kernel& k : kernels())
    EXPECT_TRUE(listed.contains(k.name)) << k.name << " is picked by no entry of default_variants.cpp";
}

TEST(DefaultVariants, NamesTellThemApart) {
  std::set<std::string> names;
  for (const Variant& v : default_variants(desktop())) {
    const std::string kernel_name(v.dispatch ? kernel(v.dispatch->kernel).name : "refused");
    EXPECT_TRUE(names.insert(kernel_name + "/" + v.name).second) << kernel_name << " " << v.name;
  }
}

TEST(DefaultVariants, ARefusalIsListed) {
  Target tiny;
  tiny.limits.max_group_count = {1, 1, 1};
  bool refused = false;
  for (const Variant& v : default_variants(tiny))
    refused |= !v.dispatch && !v.dispatch.error().message.empty();
  EXPECT_TRUE(refused);
}

}  // namespace
}  // namespace tessera
