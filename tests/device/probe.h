// The test kernel: out[i] = in[i] * factor + add.
#pragma once

#include <numeric>

#include "probe_spv.h"
#include "support/gpu_fixture.h"

namespace tessera::test {

inline std::span<const std::uint8_t> bytes_of(std::span<const std::uint32_t> words) {
  return {reinterpret_cast<const std::uint8_t*>(words.data()), words.size_bytes()};
}

inline PipelineDesc probe_desc(std::uint32_t factor, std::uint32_t group = 64) {
  PipelineDesc desc;
  desc.name = "probe";
  desc.module = bytes_of(kProbeSpirv);
  desc.binding_count = 2;
  desc.push_bytes = 8;
  desc.spec = {group, factor};
  return desc;
}

// Values 0, 1, 2, ... in one buffer, and another one for results.
class ProbeTest : public GpuTest {
 protected:
  static constexpr std::uint32_t kCount = 1000;
  static constexpr std::uint32_t kGroups = (kCount + 63) / 64;
  static constexpr std::uint32_t kUntouched = 0xdeadbeef;

  void SetUp() override {
    GpuTest::SetUp();
    if (device_) open(*device_);
  }
  void TearDown() override {
    in_.reset();
    out_.reset();
    GpuTest::TearDown();
  }

  void open(Device& device, Memory memory = Memory::device, BufferLanes lanes = BufferLanes::one) {
    in_ = take(device.create_buffer(kCount * 4, memory, "in", lanes));
    out_ = take(device.create_buffer(kCount * 4, memory, "out"));
    ASSERT_TRUE(in_ && out_);
    std::vector<std::uint32_t> values(kCount);
    std::iota(values.begin(), values.end(), 0u);
    ASSERT_TRUE(device.upload(*in_, 0, std::as_bytes(std::span(values))));
    values.assign(kCount, kUntouched);
    ASSERT_TRUE(device.upload(*out_, 0, std::as_bytes(std::span(values))));
  }

  std::vector<BindingRange> ranges() const {
    return {{in_.get(), 0, in_->size()}, {out_.get(), 0, out_->size()}};
  }

  void submit_and_wait(Device& device, const CommandList& list) {
    const CommandList* lists[] = {&list};
    EXPECT_TRUE(take(device.wait(take(device.submit(lists)), 10'000'000'000)));
  }

  std::vector<std::uint32_t> results(Device& device) {
    std::vector<std::uint32_t> out(kCount);
    expect_ok(device.download(*out_, 0, std::as_writable_bytes(std::span(out))));
    return out;
  }

  // One dispatch of workgroups [base, base + groups).
  std::vector<std::uint32_t> run(Device& device, const PipelineDesc& desc, std::uint32_t add,
                                 std::uint32_t base = 0, std::uint32_t groups = kGroups) {
    const auto pipeline = take(device.create_pipeline(desc));
    if (!pipeline) return {};
    const auto set = take(device.create_binding_set(*pipeline, ranges()));
    const auto list = take(device.create_command_list(0));
    if (!set || !list) return {};
    const std::uint32_t push[] = {add, kCount};
    list->barrier();
    list->dispatch(*pipeline, *set, push, {base, 0, 0}, {groups, 1, 1});
    expect_ok(list->finish());
    submit_and_wait(device, *list);
    return results(device);
  }

  std::unique_ptr<Buffer> in_, out_;
};

}  // namespace tessera::test
