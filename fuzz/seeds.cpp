// Writes the first inputs of the fuzz targets: fuzz_seeds DIR makes a folder for each in DIR.
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "saved_session.h"
#include "support/gguf_builder.h"
#include "support/random_blocks.h"
#include "support/safetensors_builder.h"
#include "support/tiny_transformer.h"

namespace {

void save(const std::filesystem::path& path, const std::vector<std::byte>& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

std::vector<std::byte> gguf_with_everything(std::uint32_t version) {
  tessera::test::GgufBuilder b;
  b.version = version;
  b.alignment = 8;
  b.u32("general.alignment", 8).string("name", "x").f32("f", 1).boolean("b", true).i32("i", -1);
  b.strings("ss", {"a", ""}).floats("fs", {1, 2}).i32s("is", {-1, 2});
  b.array("bs", 7, 2).put(std::uint8_t{1}).put(std::uint8_t{0});
  b.key("u64", 10).put(std::uint64_t{5});
  using tessera::DType;
  const std::vector<float> row(64, 1.0f);
  for (const DType type : {DType::f32, DType::f16, DType::bf16})
    b.tensor(std::string(tessera::info(type).name), {2, 32}, row, type);
  for (const DType type : {DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q4_k,
                           DType::q5_k, DType::q6_k}) {
    const tessera::DTypeInfo& info = tessera::info(type);
    b.raw_tensor(std::string(info.name), {2, info.block_elems}, *tessera::gguf::from_dtype(type),
                 tessera::test::random_blocks(type, 2, version));
  }
  b.raw_tensor("unknown", {3}, 99, {});
  return b.build();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: fuzz_seeds DIR\n");
    return 2;
  }
  const std::filesystem::path dir = argv[1];
  std::filesystem::create_directories(dir / "gguf");
  std::filesystem::create_directories(dir / "safetensors");
  save(dir / "gguf/v3", gguf_with_everything(3));
  save(dir / "gguf/v2", gguf_with_everything(2));
  tessera::test::GgufBuilder vocabulary;
  save(dir / "gguf/vocabulary", vocabulary.string("a", "b").build());
  tessera::test::SafetensorsBuilder plain;
  plain.tensor("a", "F32", {2, 2}, 16)
      .tensor("b", "BF16", {1}, 2)
      .tensor("c", "I64", {}, 8)
      .tensor("d", "U8", {0}, 0);
  plain.metadata = R"({"format":"pt","e":"\u00e9\ud83d\ude00"})";
  save(dir / "safetensors/plain", plain.build());
  save(dir / "safetensors/empty", tessera::test::SafetensorsBuilder::with_header("{}"));
  const tessera::test::TinyTransformer tiny;
  const std::string separator(1, '\0');
  const std::string files =
      tiny.config + separator + tiny.source + separator + tiny.target + separator + tiny.header;
  const auto bytes = std::as_bytes(std::span(files));
  std::filesystem::create_directories(dir / "transformer");
  save(dir / "transformer/tiny", {bytes.begin(), bytes.end()});
  std::filesystem::create_directories(dir / "saved_session");
  const std::vector<std::byte> cache(tessera::cache_bytes(tessera::kSavedShape, 2), std::byte{60});
  save(dir / "saved_session/two", tessera::saved_session({2, {}, {5, 299, 0}, "\1\0text"}, cache));
  save(dir / "saved_session/none", tessera::saved_session({}, {}));
  return 0;
}
