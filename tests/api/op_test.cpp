// One operation through the C and C++ API: what it gives, and what it refuses before anything runs.
#include <array>
#include <cmath>
#include <cstring>

#include "api_fixture.h"

namespace tessera::test {
namespace {

Tensor floats(const std::string& name, std::vector<std::uint64_t> shape, const std::vector<float>& values) {
  Tensor out{name, "F32", std::move(shape), std::vector<std::byte>(values.size() * 4)};
  if (!values.empty()) std::memcpy(out.data.data(), values.data(), out.data.size());
  return out;
}
std::vector<float> values(const Tensor& tensor) {
  std::vector<float> out(tensor.data.size() / 4);
  if (!out.empty()) std::memcpy(out.data(), tensor.data.data(), tensor.data.size());
  return out;
}

class Ops : public OnBoth {};
TSR_ON_BOTH(Ops);

TEST_P(Ops, GiveNamedTensors) {
  const Context& context = this->context();
  const Tensor q = floats("Q", {1, 1, 2, 1}, {0, std::log(3.0f)}), k = floats("K", {1, 1, 2, 1}, {0, 1});
  const std::vector<Tensor> inputs{q, k, floats("V", {1, 1, 2, 2}, {0, 8, 4, 0})};
  const std::vector<std::string> wanted{"lse"};
  const auto outputs = take(context.op("attention", inputs, {}, wanted));
  ASSERT_EQ(outputs.size(), 2u);
  EXPECT_EQ(outputs[0].name, "Y");
  EXPECT_EQ(outputs[0].shape, (std::vector<std::uint64_t>{1, 1, 2, 2}));
  EXPECT_THAT(values(outputs[0]), testing::Pointwise(testing::FloatNear(1e-5f), {2.0f, 4.0f, 3.0f, 2.0f}));
  EXPECT_EQ(outputs[1].name, "lse");
  EXPECT_THAT(values(outputs[1]),
              testing::Pointwise(testing::FloatNear(1e-5f), {std::log(2.0f), std::log(4.0f)}));
}

TEST_P(Ops, RefuseBeforeAnythingIsAskedFor) {
  const Context& context = this->context();
  const std::vector<Tensor> x{floats("input", {3}, {1, 2, 3})};
  const auto refuses = [&](const std::string& words, std::vector<Tensor> inputs,
                           std::vector<std::string> attributes, std::vector<std::string> outputs = {}) {
    expect_failure(context.op("softmax", inputs, attributes, outputs), TESSERA_INVALID_ARGUMENT, words);
  };
  refuses("tensor 'input' is missing", {}, {});
  refuses("tensor 'input' is given twice", {x[0], x[0]}, {});
  refuses("F32 (4) takes 16 bytes, but 12 are given", {Tensor{"input", "F32", {4}, x[0].data}}, {});
  const std::vector<Tensor> huge{Tensor{"input", "F32", {1ull << 33, 1ull << 33}, {}}};
  expect_failure(context.op("softmax", huge), TESSERA_UNSUPPORTED, "has 2^32 elements or more");
  refuses("axis is \"nan\"", x, {"axis=nan"});
  refuses("no attribute \"\"", x, {"=1"});
  refuses("no output \"Y\"", x, {}, {"Y"});
  expect_failure(context.op("sofmax", x), TESSERA_INVALID_ARGUMENT, "did you mean 'softmax'?");

  // The C structs: no callback is called for what is refused.
  auto desc = init<tessera_op_desc>();
  bool called = false;
  desc.user = &called;
  desc.output = [](void* user, const tessera_tensor*) -> void* {
    *static_cast<bool*>(user) = true;
    return nullptr;
  };
  tessera_error error;
  EXPECT_EQ(tessera_op_run(context.get(), &desc, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_THAT(error.message, testing::HasSubstr("op"));
  desc.op = "softmax";
  desc.input_count = 1;
  EXPECT_EQ(tessera_op_run(context.get(), &desc, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_THAT(error.message, testing::HasSubstr("inputs"));
  tessera_tensor tensor = x[0].view();
  tensor.name = nullptr;
  desc.inputs = &tensor;
  EXPECT_EQ(tessera_op_run(context.get(), &desc, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_THAT(error.message, testing::HasSubstr("input 0"));
  tensor = x[0].view();
  tensor.data = nullptr;
  EXPECT_EQ(tessera_op_run(context.get(), &desc, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_THAT(error.message, testing::HasSubstr("0 are given"));
  tensor = x[0].view();
  for (const std::uint32_t dims : {9u, UINT32_MAX}) {
    const std::uint64_t nine[9] = {};
    tensor.shape = nine;
    tensor.dims = dims;  // more than there are to read
    EXPECT_EQ(tessera_op_run(context.get(), &desc, &error), TESSERA_INVALID_ARGUMENT);
    EXPECT_THAT(error.message,
                testing::HasSubstr("has " + std::to_string(dims) + " dimensions, at most 8 are taken"));
  }
  const char* none = nullptr;
  tensor = x[0].view();
  desc.attributes = &none;
  desc.attribute_count = 1;
  EXPECT_EQ(tessera_op_run(context.get(), &desc, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_THAT(error.message, testing::HasSubstr("attribute"));
  EXPECT_FALSE(called);
}

// An attention of F16 tensors of one shape.
struct AttentionDesc {
  explicit AttentionDesc(std::array<std::uint64_t, 4> of) : shape(of) {
    const char* names[] = {"Q", "K", "V"};
    for (int i = 0; i < 3; ++i) {
      tensors[i] = init<tessera_tensor>();
      tensors[i].name = names[i];
      tensors[i].type = "F16";
      tensors[i].shape = shape.data();
      tensors[i].dims = 4;
    }
    desc.op = "attention";
    desc.inputs = tensors;
    desc.input_count = 3;
  }
  AttentionDesc(const AttentionDesc&) = delete;

  std::array<std::uint64_t, 4> shape;
  tessera_tensor tensors[3];
  tessera_op_desc desc = init<tessera_op_desc>();
};

TEST_P(Ops, PlanFromShapesAlone) {
  const Context context = take(Context::create(on_gpu() ? gpu(true) : reference()));
  AttentionDesc attention({1, 2, 32768, 64});
  tessera_op_desc& desc = attention.desc;
  struct Found {
    std::uint64_t kernels = 0, scratch = ~0ull;
    double tiles = 0;
  } found;
  auto sink = init<tessera_plan_sink>();
  sink.user = &found;
  sink.kernel = [](void* user, const tessera_op_kernel* kernel) {
    static_cast<Found*>(user)->kernels += 1;
    static_cast<Found*>(user)->tiles += kernel->tiles;
  };
  sink.total = [](void* user, const tessera_plan_totals* totals) {
    static_cast<Found*>(user)->scratch = totals->scratch_bytes;
  };
  if (!on_gpu()) {
    expect_failure(context.plan(desc), TESSERA_INVALID_ARGUMENT, "the reference has no kernels to plan");
    return;
  }
  take(take(context.plan(desc)).describe(sink));
  EXPECT_GE(found.kernels, 1u);
  EXPECT_GT(found.tiles, 0);
  EXPECT_LE(found.scratch, 32768u * 2 * 16);  // words a row and head, of 32,768 keys
}

// Rates that say the opposite of each other choose different forms, and the other one is refused with both.
TEST_P(Ops, MeasuredRatesChooseTheForm) {
  if (!on_gpu()) return;
  AttentionDesc attention({1, 2, 64, 32});
  tessera_op_desc& desc = attention.desc;
  const char* mixed = "precision=mixed";
  desc.attributes = &mixed;
  desc.attribute_count = 1;
  struct Found {
    std::string kernel, refused;
  };
  const auto plan = [&](std::vector<const char*> rates) {
    auto context_desc = gpu();
    context_desc.rates = rates.data();
    context_desc.rate_count = static_cast<std::uint32_t>(rates.size());
    const Context context = take(Context::create(context_desc));
    Found found;
    auto sink = init<tessera_plan_sink>();
    sink.user = &found;
    sink.kernel = [](void* user, const tessera_op_kernel* kernel) {
      static_cast<Found*>(user)->kernel += kernel->name;
    };
    sink.refused = [](void* user, const char* tier, const char* reason) {
      static_cast<Found*>(user)->refused += std::string(tier) + ": " + reason + "\n";
    };
    take(take(context.plan(desc)).describe(sink));
    return found;
  };
  const Found slow =
      plan({"attention_coopmat2=1", "attention_coopmat=1", "attention_keys=1", "attention=31"});
  EXPECT_EQ(slow.kernel, "attention");
  const Found first = plan({});
  if (first.kernel == "attention") return;  // the only form that this device has
  EXPECT_THAT(slow.refused, testing::HasSubstr("measured at 1 GFLOP/s on this device, attention at 31"));
  const Found fast = plan({"attention_coopmat2=9", "attention_coopmat=9", "attention_keys=9", "attention=5"});
  EXPECT_EQ(fast.kernel, first.kernel);
  EXPECT_THAT(fast.refused, testing::HasSubstr("attention: measured at 5 GFLOP/s on this device, "));
}

}  // namespace
}  // namespace tessera::test
