#include "kernels/catalogue.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "device/module.h"
#include "interface/matmul.h"

namespace tessera {
namespace {

TEST(Catalogue, EveryModuleIsSane) {
  std::set<std::string_view> names;
  std::size_t bytes = 0;
  for (const Kernel& k : kernels()) {
    EXPECT_EQ(&k, &kernel(k.id));
    EXPECT_TRUE(names.insert(k.name).second) << k.name;
    EXPECT_TRUE(k.origin == "built" || k.origin == "prebuilt") << k.name;
    EXPECT_GT(k.binding_count, 0u) << k.name;
    EXPECT_LE(k.binding_count, k.access.size()) << k.name;
    EXPECT_LE(k.push_bytes, 128u) << k.name;
    bool writes = false;
    for (std::uint32_t i = 0; i < k.binding_count; ++i)
      writes |= k.access[i] == Access::write || k.access[i] == Access::read_write;
    EXPECT_TRUE(writes) << k.name << " writes nothing";
    EXPECT_TRUE(module_words(k.module)) << k.name;
    bytes += k.module.size();
  }
  EXPECT_LE(names.size(), 100u);
  EXPECT_LE(bytes, 3u << 20);
}

TEST(Catalogue, DamagedModulesAreRefused) {
  const Kernel& k = kernel(KernelId::embedding);
  const std::vector<std::uint8_t> whole(k.module.begin(), k.module.end());
  std::vector<std::uint8_t> bytes = whole;
  bytes[bytes.size() / 2] ^= 0x10;
  EXPECT_FALSE(module_words(bytes));
  bytes = whole;
  bytes[bytes.size() - 2] = 0x7f;  // of the size
  EXPECT_FALSE(module_words(bytes));
  EXPECT_FALSE(module_words(std::span(whole).first(whole.size() - 4)));
  EXPECT_FALSE(module_words(std::span(whole).first(10)));
  EXPECT_FALSE(module_words({}));
}

TEST(Catalogue, AccessIsWhatTheShaderDeclares) {
  const Kernel& k = kernel(KernelId::tile);
  for (std::uint32_t i = 0; i < k.binding_count; ++i)
    EXPECT_EQ(k.access[i], i == shader::kMatmulY || i == shader::kFusedK || i == shader::kFusedV
                               ? Access::read_write
                               : Access::read)
        << i;
}

TEST(Catalogue, MissingCapabilities) {
  EXPECT_EQ(missing_capability(KernelId::norm, Caps{}), "");
  EXPECT_EQ(missing_capability(KernelId::norm_subgroup, Caps{}), "subgroup_arithmetic");
  Caps caps;
  caps.subgroup_arithmetic = true;
  EXPECT_EQ(missing_capability(KernelId::norm_subgroup, caps), "");
}

TEST(Catalogue, SeveralCapabilities) {
  Caps caps;
  EXPECT_EQ(missing_capability(KernelId::matmul_dot_few, caps), "int_dot");
  caps.int_dot = true;
  EXPECT_EQ(missing_capability(KernelId::matmul_dot_few, caps), "subgroup_arithmetic");
  caps.coopmat = caps.subgroup_arithmetic = true;
  EXPECT_EQ(missing_capability(KernelId::matmul_dot_few, caps), "");
  EXPECT_EQ(missing_capability(KernelId::matmul_coopmat, caps), "fp16");
}

TEST(Catalogue, CapabilitiesAreMembersOfCaps) {
  Caps caps;
  caps.fp16 = caps.int_dot = caps.coopmat = caps.coopmat2 = true;
  caps.subgroup_arithmetic = caps.subgroup_shuffle = true;
  for (const Kernel& k : kernels()) EXPECT_EQ(missing_capability(k.id, caps), "") << k.name;
}

}  // namespace
}  // namespace tessera
