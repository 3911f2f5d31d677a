// Attention with a user's functions on the device of the tests, in each of its forms.
#pragma once

#include <cmath>
#include <functional>

#include "api/api_fixture.h"
#include "api/op_call.h"
#include "tessera/tessera_glsl.h"

namespace tessera::test {

struct Sizes {
  std::uint64_t batch = 1, heads = 1, kv_heads = 1, rows = 1, keys = 1, dim = 16;
};

inline std::vector<Tensor> qkv(const Sizes& s, const std::string& kv_type = "F32") {
  return {random_tensor("Q", "F32", {s.batch, s.heads, s.rows, s.dim}, 1),
          random_tensor("K", kv_type, {s.batch, s.kv_heads, s.keys, s.dim}, 2),
          random_tensor("V", kv_type, {s.batch, s.kv_heads, s.keys, s.dim}, 3)};
}

inline std::vector<float> floats_of(const Tensor& tensor) {
  std::vector<float> out(tensor.data.size() / 4);
  std::memcpy(out.data(), tensor.data.data(), tensor.data.size());
  return out;
}

class UserFunctions : public ApiTest {
 protected:
  void SetUp() override {
    TSR_NEED_DEVICE();
    keep_driver();
  }

  // `as_gpu`: the forms for GPUs on a software driver too.
  Context context(bool as_gpu) {
    tessera_context_desc desc = gpu();
    desc.compile_glsl = tessera_glsl_compile;
    std::vector<const char*> caps(desc.caps, desc.caps + desc.cap_count);
    if (as_gpu) caps.push_back("software=0");
    desc.caps = caps.data();
    desc.cap_count = static_cast<std::uint32_t>(caps.size());
    return take(Context::create(desc));
  }

  static std::vector<Tensor> run(const Context& context, const std::vector<Tensor>& inputs,
                                 const UserGlsl& user, const std::vector<std::string>& attributes = {},
                                 const std::vector<std::string>& outputs = {}) {
    return take(context.op("attention", inputs, attributes, outputs, user));
  }

  // Kernels of the plan, and that no form was taken without the test's knowing.
  static std::vector<std::string> kernels(const Context& context, const std::vector<Tensor>& inputs,
                                          const UserGlsl& user) {
    std::vector<std::string> names;
    auto sink = init<tessera_plan_sink>();
    sink.user = &names;
    sink.kernel = [](void* to, const tessera_op_kernel* kernel) {
      static_cast<std::vector<std::string>*>(to)->emplace_back(kernel->name);
    };
    const auto plan = take(context.plan("attention", inputs, {}, {}, user));
    EXPECT_TRUE(plan.describe(sink));
    return names;
  }
};

// Sizes of the three forms: few rows are split on a GPU.
inline const Sizes kSizes[] = {{1, 1, 1, 1, 1, 16},    {1, 2, 1, 2, 3, 16},    {2, 3, 3, 7, 31, 16},
                               {1, 4, 2, 8, 131, 16},  {1, 2, 2, 9, 9, 16},    {2, 2, 1, 33, 65, 16},
                               {1, 6, 2, 67, 127, 16}, {1, 1, 1, 130, 257, 16}};

}  // namespace tessera::test
