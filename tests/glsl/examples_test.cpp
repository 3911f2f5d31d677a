// Every example of docs/user_functions.md compiles and runs, on every form.
#include <fstream>
#include <iterator>

#include "user_fixture.h"

namespace tessera::test {
namespace {

std::vector<std::string> examples() {
  std::ifstream file(TESSERA_SOURCE_DIR "/docs/user_functions.md");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const std::string begin = "```glsl\n", end = "```";
  std::vector<std::string> out;
  for (std::size_t at = text.find(begin); at != std::string::npos; at = text.find(begin, at)) {
    at += begin.size();
    out.push_back(text.substr(at, text.find(end, at) - at));
  }
  return out;
}

// "// buffers: slopes F32, ids U32"
std::vector<Tensor> buffers_of(const std::string& example) {
  const std::string head = "// buffers: ";
  std::vector<Tensor> out;
  if (!example.starts_with(head)) return out;
  std::istringstream list(example.substr(head.size(), example.find('\n') - head.size()));
  for (std::string name, type; list >> name >> type;) {
    if (type.ends_with(',')) type.pop_back();
    std::vector<float> numbers(64, 0.5f);
    std::vector<std::uint32_t> words(64);
    for (std::uint32_t i = 0; i < 64; ++i) words[i] = i / 16;
    out.push_back(type == "F32" ? tensor_of("user." + name, type, {64}, numbers)
                                : tensor_of("user." + name, type, {64}, words));
  }
  return out;
}

TEST_F(UserFunctions, ExamplesOfTheDocumentation) {
  const std::vector<std::string> all = examples();
  EXPECT_GE(all.size(), 6u);
  for (const bool as_gpu : {false, true}) {
    const Context on = context(as_gpu);
    for (const std::string& example : all)
      for (const std::uint64_t rows : {3u, 20u}) {
        std::vector<Tensor> inputs = qkv({1, 2, 1, rows, 20, 8});
        for (Tensor& t : buffers_of(example)) inputs.push_back(std::move(t));
        const bool mask = example.find("bool mask(") != std::string::npos;
        const auto found = run(on, inputs, {mask ? "" : example, mask ? example : ""});
        ASSERT_EQ(found.size(), 1u) << example;
        for (const float y : floats_of(found[0])) ASSERT_LE(std::abs(y), 1.0f) << example;
      }
  }
}

}  // namespace
}  // namespace tessera::test
