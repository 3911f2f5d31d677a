// An Instance and a Device for tests that run kernels. What they use comes from the environment:
//   TESSERA_TEST_DEVICE  an index or a part of a name (empty: the best there is; "none": such tests skip)
//   TESSERA_TEST_CAPS    "name=value,name=value", overrides as --cap takes them
// A test fails on a missing device and on any warning or error in the log; messages of validation layers
// (VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation) arrive there as errors.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "device/device.h"
#include "support/environment.h"

namespace tessera::test {

// Keeps the lines at and above warning, from any thread.
class LogLines {
 public:
  Log sink() {
    return [this](LogLevel level, std::string_view text) {
      if (level < LogLevel::warning) return;
      const std::lock_guard lock(mutex_);
      lines_.emplace_back(text);
    };
  }
  std::vector<std::string> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(lines_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> lines_;
};

inline Result<std::vector<CapOverride>> caps_from_env() {
  std::vector<CapOverride> out;
  std::istringstream list(env("TESSERA_TEST_CAPS"));
  for (std::string item; std::getline(list, item, ',');) {
    TSR_TRY(CapOverride cap, parse_cap_override(item));
    out.push_back(std::move(cap));
  }
  return out;
}

class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    TSR_NEED_DEVICE();
    const std::string wanted = env("TESSERA_TEST_DEVICE");
    Instance::Desc desc;
    desc.debug_messages = true;
    desc.log = log_.sink();
    auto instance = Instance::create(desc);
    ASSERT_TRUE(instance) << instance.error().message;
    instance_ = *std::move(instance);
    // Keeps the driver's library in the process to its end, so that a leak report can name it.
    static const auto* const first = new std::shared_ptr<Instance>(take(Instance::create({})));
    ASSERT_TRUE(*first);
    auto reports = instance_->enumerate();
    ASSERT_TRUE(reports) << reports.error().message;
    const auto index = pick_device(*reports, wanted);
    ASSERT_TRUE(index) << index.error().message;
    index_ = *index;
    auto caps = caps_from_env();
    ASSERT_TRUE(caps) << caps.error().message;
    device_ = make_device(*caps);
    ASSERT_TRUE(device_);
  }

  void TearDown() override {
    device_.reset();
    instance_.reset();
    for (const std::string& line : log_.take()) ADD_FAILURE() << "logged: " << line;
  }

  // Another device of the same instance; null (and a failed test) when that does not work.
  std::unique_ptr<Device> make_device(std::vector<CapOverride> overrides, std::vector<std::byte> cache = {}) {
    Device::Desc desc;
    desc.index = index_;
    desc.overrides = std::move(overrides);
    desc.pipeline_cache = std::move(cache);
    desc.log = log_.sink();
    auto device = Device::create(instance_, desc);
    if (device) return *std::move(device);
    ADD_FAILURE() << device.error().message;
    return nullptr;
  }

  // The value, or its default and a failed test.
  template <typename T>
  static T take(Result<T> result) {
    if (result) return *std::move(result);
    ADD_FAILURE() << result.error().message;
    return {};
  }
  static void expect_ok(const Result<void>& result) {
    if (!result) ADD_FAILURE() << result.error().message;
  }

  LogLines log_;  // tests that expect a line take() it
  std::shared_ptr<Instance> instance_;
  std::uint32_t index_ = 0;  // of the device in instance_
  std::unique_ptr<Device> device_;
};

}  // namespace tessera::test
