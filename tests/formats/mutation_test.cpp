// Damaged copies of small valid files: the parser must return, with a clean message and little memory.
#include <gtest/gtest.h>

#include <random>

#include "formats/model_file.h"
#include "support/allocations.h"
#include "support/gguf_builder.h"
#include "support/refusal.h"
#include "support/safetensors_builder.h"

namespace tessera {
namespace {

std::vector<std::byte> small_gguf() {
  const std::vector<float> values(256, 0.5f);
  test::GgufBuilder b;
  b.string("general.architecture", "llama").u32("llama.block_count", 2).f32("llama.epsilon", 1e-5f);
  b.boolean("flag", true)
      .strings("tokens", {"<s>", "a", "bc"})
      .floats("scores", {1, 2, 3})
      .i32s("types", {1, 2, 3});
  b.tensor("a", {32}, std::span(values).first(32))
      .tensor("b", {2, 64}, std::span(values).first(128), DType::q8_0);
  b.raw_tensor("c", {256}, 14, std::vector<std::byte>(210));
  return b.build();
}

// Opens; on success touches everything that a caller can.
void exercise(const std::vector<std::byte>& bytes) {
  test::reset_peak();
  auto opened = ModelFile::open(ByteSource::from_memory(bytes));
  // The largest in-memory form per file byte: bytes of a u8 array as u64, doubled by a growing vector.
  EXPECT_LE(test::peak_bytes(), 24 * bytes.size() + 4096);
  if (!opened.ok()) {
    test::expect_refused(opened, opened.error().code, {});
    return;
  }
  std::vector<std::byte> data;
  for (const TensorInfo& tensor : opened->tensors()) {
    ASSERT_LE(tensor.bytes, bytes.size());
    data.resize(tensor.bytes);
    ASSERT_TRUE(opened->read(tensor, 0, data).ok());
    std::vector<float> values(tensor.elems());
    decode_row(tensor.dtype, data, values);
  }
}

void mutate(const std::vector<std::byte>& valid, std::size_t head) {
  exercise(valid);
  for (std::size_t size = 0; size < valid.size(); ++size)
    exercise({valid.begin(), valid.begin() + static_cast<std::ptrdiff_t>(size)});
  for (std::size_t bit = 0; bit < head * 8; ++bit) {
    std::vector<std::byte> bytes = valid;
    bytes[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
    exercise(bytes);
  }
  std::mt19937 random(7);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::byte> bytes = valid;
    for (std::size_t edits = 1 + below(4); edits > 0; --edits) {
      const std::size_t at = below(head);
      switch (below(4)) {
        case 0: bytes[at] = static_cast<std::byte>(random()); break;
        case 1: bytes[at] = std::byte{0xff}; break;
        case 2: bytes.erase(bytes.begin() + static_cast<std::ptrdiff_t>(at)); break;
        default:
          bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at), 8, static_cast<std::byte>(random()));
      }
    }
    exercise(bytes);
  }
}

TEST(Mutation, Gguf) {
  const std::vector<std::byte> valid = small_gguf();
  ASSERT_TRUE(ModelFile::open(ByteSource::from_memory(valid)).ok());
  mutate(valid, valid.size() - 512);
}

TEST(Mutation, Safetensors) {
  test::SafetensorsBuilder b;
  b.tensor("a", "F32", {4, 8}, 128)
      .tensor("b", "BF16", {3}, 6)
      .tensor("c", "I64", {}, 8)
      .tensor("d", "F16", {0}, 0);
  b.metadata = R"({"format":"pt","note":"\u00e9"})";
  const std::vector<std::byte> valid = b.build();
  auto opened = ModelFile::open(ByteSource::from_memory(valid));
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  mutate(valid, valid.size() - 142);
}

}  // namespace
}  // namespace tessera
