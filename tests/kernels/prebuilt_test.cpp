// A catalogue with a module that the configured glslang may be too old for.
#include <gtest/gtest.h>

#include "kernels/prebuilt/push.h"
#include "kernels/reflect.h"
#include "test_spirv/embed.inc"

namespace tessera {
namespace {

#define TESSERA_KERNEL(name, source, Push, bindings, specs, capability, defines, needs) \
  TSR_CHECK_MODULE(name, shader::Push, bindings, specs);
#include "kernels/prebuilt/kernels.inc"
#undef TESSERA_KERNEL

constexpr std::uint32_t kCapability = 17, kCooperativeMatrix = 6022;

bool declares(std::span<const std::uint32_t> words, std::uint32_t capability) {
  bool found = false;
  spirv::each_declaration(words, [&](std::uint32_t op, std::span<const std::uint32_t> operands) {
    found |= op == kCapability && operands[0] == capability;
  });
  return found;
}

TEST(Prebuilt, TheOriginIsWhatTheConfiguredCompilerCanDo) {
  EXPECT_EQ(origin_test_plain, "built");
  EXPECT_EQ(origin_test_matrix, TESSERA_GLSLANG_HAS_COOPMAT ? "built" : "prebuilt");
}

TEST(Prebuilt, EitherWayTheModuleIsTheSameKernel) {
  EXPECT_FALSE(declares(spv_test_plain, kCooperativeMatrix));
  EXPECT_TRUE(declares(spv_test_matrix, kCooperativeMatrix));
  EXPECT_EQ(reflect(spv_test_matrix).access[0], Access::write);
}

}  // namespace
}  // namespace tessera
