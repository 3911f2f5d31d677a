// Runs one Dispatch on a device and brings back what it wrote. Every binding lies between two pads of NaN, so
// that a read outside of it spoils the result and a write outside of it is found.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "device/device.h"
#include "kernels/catalogue.h"
#include "kernels/target.h"

namespace tessera::test {

using Bytes = std::vector<std::byte>;

template <typename T>
Bytes to_bytes(const std::vector<T>& values) {
  Bytes out(values.size() * sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), values.data(), out.size());
  return out;
}
template <typename T>
std::vector<T> from_bytes(const Bytes& bytes) {
  std::vector<T> out(bytes.size() / sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), bytes.data(), out.size() * sizeof(T));
  return out;
}

inline constexpr std::uint32_t kPoison = 0x7fc0beefu;  // a NaN

// A binding's bytes on the device, padded by poison on both sides.
struct PaddedBuffer {
  std::unique_ptr<Buffer> buffer;
  std::uint64_t pad = 0, size = 0;

  static Result<PaddedBuffer> upload(Device& device, const Bytes& bytes) {
    PaddedBuffer out;
    out.pad = std::max<std::uint64_t>(device.report().limits.min_storage_alignment, 4096);
    out.size = std::max<std::uint64_t>(bytes.size(), 4);
    const std::uint64_t whole = out.pad + (out.size + 3) / 4 * 4 + out.pad;
    Bytes content = to_bytes(std::vector<std::uint32_t>(whole / 4, kPoison));
    if (!bytes.empty()) std::memcpy(content.data() + out.pad, bytes.data(), bytes.size());
    TSR_TRY(out.buffer, device.create_buffer(whole, Memory::device, "test binding"));
    TSR_CHECK(device.upload(*out.buffer, 0, content));
    return out;
  }
  // The binding's bytes; an error when a pad was written.
  Result<Bytes> download(Device& device) const {
    Bytes content(buffer->size());
    TSR_CHECK(device.download(*buffer, 0, content));
    const std::vector<std::uint32_t> words = from_bytes<std::uint32_t>(content);
    for (std::uint64_t i = 0; i < words.size(); ++i)
      if ((i * 4 < pad || i * 4 >= pad + size) && words[i] != kPoison)
        return Error{Code::mismatch, "word " + std::to_string(static_cast<std::int64_t>(i - pad / 4)) +
                                         " of a binding of " + std::to_string(size / 4) +
                                         " words was written"};
    return Bytes(content.begin() + static_cast<std::ptrdiff_t>(pad),
                 content.begin() + static_cast<std::ptrdiff_t>(pad + size));
  }
};

// Runs `dispatch` over `bindings` (the same vector at two bindings is one buffer) in `slices` pieces of its
// grid's x, and replaces the vectors that the kernel declares it writes.
inline Result<void> try_dispatch(Device& device, const Dispatch& dispatch,
                                 const std::vector<Bytes*>& bindings, std::uint32_t slices = 1) {
  const Kernel& k = kernel(dispatch.kernel);
  if (bindings.size() != k.binding_count) return Error{Code::internal, std::string(k.name) + ": bindings"};
  if (dispatch.push.size() * 4 != k.push_bytes) return Error{Code::internal, std::string(k.name) + ": push"};
  TSR_TRY(auto pipeline, device.create_pipeline(pipeline_desc(dispatch)));
  std::map<Bytes*, PaddedBuffer> buffers;
  std::vector<BindingRange> ranges;
  for (Bytes* bytes : bindings) {
    if (!buffers.contains(bytes)) {
      TSR_TRY(buffers[bytes], PaddedBuffer::upload(device, *bytes));
    }
    const PaddedBuffer& b = buffers[bytes];
    // With the pad behind it: drivers that check bounds would hide a read past the end.
    ranges.push_back({b.buffer.get(), b.pad, b.buffer->size() - b.pad});
  }
  TSR_TRY(auto set, device.create_binding_set(*pipeline, ranges));
  TSR_TRY(auto commands, device.create_command_list(0));
  const std::uint32_t step = std::max(1u, (dispatch.grid[0] + slices - 1) / slices);
  for (std::uint32_t x = 0; x < dispatch.grid[0]; x += step) {
    if (x != 0) commands->barrier();  // between pieces, as the schedule has it
    commands->dispatch(*pipeline, *set, dispatch.push, {x, 0, 0},
                       {std::min(step, dispatch.grid[0] - x), dispatch.grid[1], dispatch.grid[2]});
  }
  TSR_CHECK(commands->finish());
  const CommandList* list = commands.get();
  TSR_TRY(const std::uint64_t value, device.submit({&list, 1}));
  TSR_TRY(const bool done, device.wait(value, 60'000'000'000ull));
  if (!done) return Error{Code::internal, std::string(k.name) + " did not end within a minute"};
  for (std::size_t i = 0; i < bindings.size(); ++i) {
    if (k.access[i] == Access::none || k.access[i] == Access::read) continue;
    TSR_TRY(*bindings[i], buffers[bindings[i]].download(device));
  }
  return {};
}

inline ::testing::AssertionResult run_dispatch(Device& device, const Dispatch& dispatch,
                                               const std::vector<Bytes*>& bindings,
                                               std::uint32_t slices = 1) {
  const Result<void> done = try_dispatch(device, dispatch, bindings, slices);
  if (!done.ok()) return ::testing::AssertionFailure() << done.error().message;
  return ::testing::AssertionSuccess();
}

// Runs the dispatches of one call whose operands are given (null: absent), with its scratches and parameters.
inline ::testing::AssertionResult run_call(Device& device, const std::vector<Dispatch>& dispatches,
                                           const std::vector<std::uint64_t>& scratch_bytes,
                                           const std::vector<Bytes*>& operands, std::uint32_t slices = 1) {
  const auto poison = [](std::uint64_t bytes) {
    return to_bytes(std::vector<std::uint32_t>((bytes + 3) / 4, kPoison));
  };
  std::vector<Bytes> scratch;
  for (const std::uint64_t bytes : scratch_bytes) scratch.push_back(poison(bytes));
  for (const Dispatch& dispatch : dispatches) {
    Bytes params = to_bytes(dispatch.params);
    std::vector<Bytes> absent(dispatch.operands.size(), poison(16));
    std::vector<Bytes*> bindings;
    for (std::size_t i = 0; i < dispatch.operands.size(); ++i) {
      const OperandIndex operand = dispatch.operands[i];
      Bytes* bytes = &absent[i];
      if (operand == kParamsOperand)
        bytes = &params;
      else if (operand < kScratchOperand && operands[operand] != nullptr)
        bytes = operands[operand];
      else if (operand != kNoOperand && operand >= kScratchOperand)
        bytes = &scratch[operand - kScratchOperand];
      bindings.push_back(bytes);
    }
    const ::testing::AssertionResult done = run_dispatch(device, dispatch, bindings, slices);
    if (!done) return done;
  }
  return ::testing::AssertionSuccess();
}

}  // namespace tessera::test
