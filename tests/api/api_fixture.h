// Contexts through the public header alone: the reference, and the device that tests of kernels use
// (TESSERA_TEST_DEVICE and TESSERA_TEST_CAPS, as in support/gpu_fixture.h).
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "support/environment.h"
#include "tessera/tessera.hpp"

namespace tessera::test {

inline const std::string kQwen2 = TESSERA_SOURCE_DIR "/tests/data/qwen2_random.gguf";
inline const std::string kPrompt = "The answer to that is in the sea";
using Ids = std::vector<std::uint32_t>;

// The value, or an empty one and a failed test.
template <typename T>
T take(Expected<T> result) {
  if (result) return *std::move(result);
  ADD_FAILURE() << result.failure().message;
  return T{};
}
template <typename T>
void expect_failure(Expected<T> result, tessera_status status, const std::string& words) {
  ASSERT_FALSE(result) << "expected a failure with: " << words;
  EXPECT_EQ(result.failure().status, status) << result.failure().message;
  EXPECT_THAT(result.failure().message, testing::HasSubstr(words));
  EXPECT_EQ(result.failure().message.find('\n'), std::string::npos);
}

// Fails on warnings and errors of the log; the validation layers' messages come there.
class ApiTest : public testing::Test {
 protected:
  void TearDown() override {
    for (const std::string& line : take_lines()) ADD_FAILURE() << "logged: " << line;
  }
  tessera_context_desc reference() {
    tessera_context_desc desc = init<tessera_context_desc>();
    desc.device = "reference";
    desc.log = log;
    return desc;
  }
  // large: with bindings as large as the device really has.
  tessera_context_desc gpu(bool large = false) {
    device_ = env("TESSERA_TEST_DEVICE");
    std::istringstream list(env("TESSERA_TEST_CAPS"));
    caps_.clear();
    cap_pointers_.clear();
    for (std::string cap; std::getline(list, cap, ',');)
      if (!large || !cap.starts_with("max_storage_range=")) caps_.push_back(cap);
    for (const std::string& cap : caps_) cap_pointers_.push_back(cap.c_str());
    tessera_context_desc desc = reference();
    desc.device = device_.c_str();
    desc.caps = cap_pointers_.data();
    desc.cap_count = static_cast<std::uint32_t>(cap_pointers_.size());
    desc.debug_messages = 1;
    return desc;
  }
  // The driver's library stays in the process to its end, so that a leak report can name it.
  void keep_driver() {
    static const auto* const first = new Context(take(Context::create(gpu())));
    ASSERT_NE(first->get(), nullptr);
  }
  // A greedy session with a small context.
  static Session session_of(const Model& model, std::uint32_t context = 64, std::uint64_t stream_bytes = 0) {
    tessera_session_desc desc = init<tessera_session_desc>();
    desc.context = context;
    desc.stream_bytes = stream_bytes;
    return take(model.session(desc));
  }
  static Session prompted(const Model& model, std::uint64_t stream_bytes = 0) {
    Session session = session_of(model, 64, stream_bytes);
    EXPECT_TRUE(session.append(take(model.tokenize(kPrompt))));
    return session;
  }
  static Ids next(Session& session, int count) {
    Ids ids;
    for (int i = 0; i < count; ++i) ids.push_back(take(session.next()));
    return ids;
  }
  static std::vector<std::string> take_lines() {
    const std::lock_guard lock(mutex_);
    return std::exchange(lines_, {});
  }

 private:
  static void log(void*, tessera_log_level level, const char* text) {
    if (level < TESSERA_LOG_WARNING) return;
    const std::lock_guard lock(mutex_);
    lines_.emplace_back(text);
  }
  inline static std::mutex mutex_;
  inline static std::vector<std::string> lines_;
  std::vector<std::string> caps_;
  std::vector<const char*> cap_pointers_;
  std::string device_;
};

// TSR_ON_BOTH(Name): tests TEST_P(Name, ...) on the reference and on the device.
class OnBoth : public ApiTest, public testing::WithParamInterface<bool> {
 protected:
  // One context of each kind serves a suite: its pipelines are made once.
  void SetUp() override {
    if (on_gpu()) {
      TSR_NEED_DEVICE();
      keep_driver();
    }
    if (contexts_[on_gpu()].get() == nullptr)
      contexts_[on_gpu()] = take(Context::create(on_gpu() ? gpu() : reference()));
    ASSERT_NE(contexts_[on_gpu()].get(), nullptr);
  }
  static void TearDownTestSuite() {
    for (Context& context : contexts_) context = Context();
    for (const std::string& line : take_lines()) ADD_FAILURE() << "logged: " << line;
  }
  bool on_gpu() const { return GetParam(); }
  Context& context() { return contexts_[on_gpu()]; }
  Model load(const std::string& path = kQwen2) { return take(context().load(path)); }

 private:
  inline static Context contexts_[2];
};
#define TSR_ON_BOTH(Suite)                                           \
  INSTANTIATE_TEST_SUITE_P(Api, Suite, testing::Values(false, true), \
                           [](const auto& gpu) { return std::string(gpu.param ? "Gpu" : "Reference"); })

}  // namespace tessera::test
