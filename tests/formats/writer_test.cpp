#include "formats/writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <numeric>
#include <stdexcept>

#include "support/refusal.h"
#include "support/temp_dir.h"

namespace tessera {
namespace {

using test::expect_refused;
using test::TempDir;
using testing::ElementsAre;

ModelFile reopen(const std::string& path) {
  auto source = ByteSource::open(path);
  if (!source) throw std::runtime_error(source.error().message);
  auto file = ModelFile::open(*source);
  if (!file) throw std::runtime_error(file.error().message);
  return *std::move(file);
}

std::vector<float> ramp(std::size_t n) {
  std::vector<float> values(n);
  std::iota(values.begin(), values.end(), -5.0f);
  return values;
}

std::vector<float> values_of(const ModelFile& file, const char* name) {
  const TensorInfo* tensor = file.find(name);
  if (!tensor) return {};
  std::vector<std::byte> bytes(tensor->bytes);
  std::vector<float> values(tensor->elems());
  if (!file.read(*tensor, 0, bytes)) return {};
  decode_row(tensor->dtype, bytes, values);
  return values;
}

TEST(GgufWriter, RoundTrip) {
  const TempDir dir;
  const std::string path = dir / "out.gguf";
  {
    auto created = GgufWriter::create(path);
    ASSERT_TRUE(created.ok()) << created.error().message;
    GgufWriter& w = *created;
    ASSERT_TRUE(w.set_string("general.architecture", "llama").ok());
    ASSERT_TRUE(w.set_u32("count", 7).ok());
    ASSERT_TRUE(w.set_u32("count", 8).ok());  // replaces
    ASSERT_TRUE(w.set_f32("eps", 1e-5f).ok());
    ASSERT_TRUE(w.set_bool("flag", true).ok());
    ASSERT_TRUE(w.set_strings("tokens", {"a", "", "b\xff"}).ok());
    ASSERT_TRUE(w.set_f32s("scores", {0.1f, -2}).ok());
    ASSERT_TRUE(w.set_i32s("types", {1, -6}).ok());
    ASSERT_TRUE(w.set("byte", {std::uint64_t{255}, 0}).ok());
    ASSERT_TRUE(w.add_tensor("bias", DType::f32, {3}).ok());
    ASSERT_TRUE(w.add_tensor("q", DType::q8_0, {2, 32}).ok());
    ASSERT_TRUE(w.add_tensor("h", DType::bf16, {2, 2}).ok());
    const std::vector<float> bias = {1, 2, 3};
    // Raw bytes may cross tensors; rows may not.
    ASSERT_TRUE(w.write(std::as_bytes(std::span(bias)).first(5)).ok());
    ASSERT_TRUE(w.write(std::as_bytes(std::span(bias)).subspan(5)).ok());
    ASSERT_TRUE(w.write_row(ramp(32)).ok());
    ASSERT_TRUE(w.write_row(ramp(32)).ok());
    EXPECT_FALSE(std::filesystem::exists(path));
    ASSERT_TRUE(w.write_row(ramp(4)).ok());
    ASSERT_TRUE(w.finish().ok());
    EXPECT_EQ(dir.files(), 1u);
  }
  const ModelFile file = reopen(path);
  EXPECT_EQ(file.version(), 3u);
  EXPECT_EQ(*file.get_uint("count"), 8u);
  EXPECT_EQ(file.metadata().at("byte").gguf_type, 0u);
  EXPECT_EQ(*file.get_float("eps"), static_cast<double>(1e-5f));
  EXPECT_THAT(**file.get_strings("tokens"), ElementsAre("a", "", "b\xff"));
  EXPECT_EQ(std::get<std::vector<std::int64_t>>(file.metadata().at("types").value)[1], -6);
  for (const TensorInfo& tensor : file.tensors()) EXPECT_EQ(tensor.offset % 32, 0u);
  EXPECT_EQ(values_of(file, "bias"), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(values_of(file, "h"), ramp(4));
  EXPECT_EQ(file.source().size() % 32, 0u);
}

TEST(GgufWriter, WithoutTensors) {
  const TempDir dir;
  auto w = GgufWriter::create(dir / "vocab.gguf");
  ASSERT_TRUE(w->set_string("general.architecture", "llama").ok());
  ASSERT_TRUE(w->finish().ok());
  EXPECT_EQ(reopen(dir / "vocab.gguf").tensors().size(), 0u);
  expect_refused(w->finish(), Code::io, {"closed"});
}

TEST(GgufWriter, Misuse) {
  const TempDir dir;
  {
    auto created = GgufWriter::create(dir / "out.gguf");
    GgufWriter& w = *created;
    const Code bad = Code::invalid_argument;
    expect_refused(w.set("k", {std::uint64_t{256}, 0}), bad, {"\"k\"", "u8"});
    expect_refused(w.set("k", {std::int64_t{1}, 4}), bad, {"u32"});
    expect_refused(w.set("k", {0.1, 6}), bad, {"f32"});  // 0.1 is no float
    expect_refused(w.set("k", {std::string("x"), 99}), bad, {"unknown"});
    expect_refused(w.set("k", {std::vector<std::string>{}, 9}), bad, {"array"});
    expect_refused(w.set_u32("", 1), bad, {"key"});
    expect_refused(w.set_u32("a\xff", 1), bad, {"a\\xff"});
    expect_refused(w.set_u32("general.alignment", 64), bad, {"aligns"});
    expect_refused(w.add_tensor("t", DType::u32, {1}), bad, {"\"t\"", "U32"});
    expect_refused(w.add_tensor("t", DType::f32, {1, 1, 1, 1, 1}), bad, {"4 dimensions"});
    expect_refused(w.add_tensor("t", DType::f32, {2, 0}), bad, {"is 0"});
    expect_refused(w.add_tensor("t", DType::f32, {1u << 31, 1u << 31}), bad, {"2^56"});
    expect_refused(w.add_tensor("t", DType::q4_0, {32, 33}), bad, {"33", "Q4_0"});
    expect_refused(w.add_tensor("\xff", DType::f32, {1}), bad, {"UTF-8"});
    ASSERT_TRUE(w.add_tensor("t", DType::q4_0, {1, 64}).ok());
    expect_refused(w.add_tensor("t", DType::f32, {1}), bad, {"twice"});
    expect_refused(w.finish(), bad, {"\"t\"", "0 of its 36"});
    expect_refused(w.write_row(ramp(16)), bad, {"\"t\"", "16"});
    expect_refused(w.write_row(ramp(96)), bad, {"\"t\"", "96"});
    ASSERT_TRUE(w.write_row(ramp(32)).ok());
    expect_refused(w.set_u32("late", 1), bad, {"\"late\"", "after"});
    expect_refused(w.add_tensor("late", DType::f32, {1}), bad, {"\"late\"", "after"});
    expect_refused(w.finish(), bad, {"18 of its 36"});
    ASSERT_TRUE(w.write_row(ramp(32)).ok());
    expect_refused(w.write_row(ramp(32)), bad, {"more"});
    expect_refused(w.write(std::vector<std::byte>(3)), bad, {"3 bytes more"});
  }
  EXPECT_EQ(dir.files(), 0u);  // nothing is left of a file that was not finished
}

TEST(Writer, BadPaths) {
  const TempDir dir;
  expect_refused(GgufWriter::create(""), Code::io, {"no path"});
  expect_refused(GgufWriter::create(dir.path()), Code::io, {dir.path(), "directory"});
  expect_refused(GgufWriter::create(dir / "none/out.gguf"), Code::io, {"none/out.gguf", "No such file"});
  expect_refused(SafetensorsWriter::create("/dev/null"), Code::io, {"/dev/null", "regular"});
}

TEST(Writer, LeavesOtherTemporariesAlone) {
  const TempDir dir;
  dir.write("out.part0", std::vector<std::byte>(3));  // of an interrupted run, or of one still going
  auto w = SafetensorsWriter::create(dir / "out");
  ASSERT_TRUE(w.ok());
  ASSERT_TRUE(w->finish().ok());
  EXPECT_EQ(std::filesystem::file_size(dir / "out.part0"), 3u);
  EXPECT_EQ(reopen(dir / "out").tensors().size(), 0u);
}

// Files of at most 64 KiB while it lives, in place of a full disk.
class SmallFiles {
 public:
  SmallFiles() {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit small = before_;
    small.rlim_cur = 65536;
    ::setrlimit(RLIMIT_FSIZE, &small);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
  }
  SmallFiles(const SmallFiles&) = delete;
  SmallFiles& operator=(const SmallFiles&) = delete;
  ~SmallFiles() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int) = SIG_DFL;
};

TEST(Writer, FullDiskIsAnErrorAndLeavesNothing) {
  const TempDir dir;
  const SmallFiles limit;
  {
    auto w = GgufWriter::create(dir / "out.gguf");
    ASSERT_TRUE(w->add_tensor("t", DType::f32, {1u << 16}).ok());
    expect_refused(w->write(std::vector<std::byte>(1u << 18)), Code::io,
                   {"out.gguf", "writing failed", "large"});
  }
  {  // the last bytes wait in the C library's buffer: the failure shows only at the end
    auto w = GgufWriter::create(dir / "out.gguf");
    ASSERT_TRUE(w->add_tensor("t", DType::f32, {65536 / 4}).ok());
    for (int i = 0; i < 256; ++i) ASSERT_TRUE(w->write_row(ramp(64)).ok());
    expect_refused(w->finish(), Code::io, {"out.gguf", "writing failed"});
  }
  EXPECT_EQ(dir.files(), 0u);
}

TEST(SafetensorsWriter, RoundTrip) {
  const TempDir dir;
  const std::string path = dir.write("out.safetensors", std::vector<std::byte>(3));  // replaced
  auto w = SafetensorsWriter::create(path);
  ASSERT_TRUE(w->set("note", "h\xc3\xa9llo \"x\"\n").ok());
  ASSERT_TRUE(w->add_tensor("logits", DType::f32, {2, 3}).ok());
  ASSERT_TRUE(w->add_tensor("ids", DType::u32, {3}).ok());
  const std::vector<std::uint32_t> ids = {1, 2, 4000000000u};
  ASSERT_TRUE(w->write_row(ramp(3)).ok());
  ASSERT_TRUE(w->write_row(ramp(3)).ok());
  ASSERT_TRUE(w->write(std::as_bytes(std::span(ids))).ok());
  ASSERT_TRUE(w->finish().ok());
  const ModelFile file = reopen(path);
  EXPECT_EQ(*file.get_string("note"), "h\xc3\xa9llo \"x\"\n");
  EXPECT_EQ(values_of(file, "logits"), (std::vector<float>{-5, -4, -3, -5, -4, -3}));
  EXPECT_EQ(file.find("ids")->dtype, DType::u32);
  EXPECT_EQ(values_of(file, "ids")[2], 4e9f);
  EXPECT_EQ(file.tensors()[0].offset % 8, 0u);
  EXPECT_EQ(dir.files(), 1u);
}

TEST(SafetensorsWriter, Misuse) {
  const TempDir dir;
  auto w = SafetensorsWriter::create(dir / "out");
  expect_refused(w->set("k", "\xff"), Code::invalid_argument, {"\"k\"", "UTF-8"});
  expect_refused(w->add_tensor("t", DType::q8_0, {32}), Code::invalid_argument, {"\"t\"", "Q8_0"});
  expect_refused(w->add_tensor("__metadata__", DType::f32, {1}), Code::invalid_argument, {"__metadata__"});
}

}  // namespace
}  // namespace tessera
