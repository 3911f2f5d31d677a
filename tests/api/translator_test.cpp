// Translators through the public header: from a folder, from memory, and what a caller can get wrong.
#include <fstream>
#include <iterator>

#include "api/api_fixture.h"

namespace tessera::test {
namespace {

const std::string kFolder = TESSERA_SOURCE_DIR "/tests/data/transformer/post";

class TranslatorTest : public OnBoth {
 protected:
  static tessera_translator_desc desc(std::uint32_t beams = 1) {
    tessera_translator_desc d = init<tessera_translator_desc>();
    d.path = kFolder.c_str();
    d.beams = beams;
    d.max_target = 14;
    return d;
  }
};
TSR_ON_BOTH(TranslatorTest);

TEST_P(TranslatorTest, GreedyAndBeams) {
  Translator translator = take(context().translator(desc(4)));
  const Translation four = take(translator.translate("gacfg"));
  EXPECT_EQ(four.source_ids, (Ids{9, 3, 5, 8, 9}));
  ASSERT_EQ(four.hypotheses.size(), 4u);
  for (std::size_t i = 1; i < 4; ++i)
    EXPECT_TRUE(four.hypotheses[i - 1].score >= four.hypotheses[i].score || !four.hypotheses[i].finished);
  const Translation greedy = take(translator.translate("g a c f g", {.beams = 1}));
  ASSERT_EQ(greedy.hypotheses.size(), 1u);
  EXPECT_EQ(greedy.source_ids, four.source_ids);
  const Translation forced = take(translator.translate("gacfg", {.prefix = "1 2", .max_tokens = 3}));
  for (const Hypothesis& h : forced.hypotheses) EXPECT_THAT(h.text, testing::StartsWith("12"));
  const Translation again = take(translator.translate("gacfg"));
  EXPECT_EQ(again.hypotheses[0].ids, four.hypotheses[0].ids);
  EXPECT_EQ(again.hypotheses[0].score, four.hypotheses[0].score);
}

TEST_P(TranslatorTest, FromMemory) {
  std::vector<std::string> names{"config.json", "source.txt", "target.txt", "weights.safetensors"}, contents;
  for (const std::string& name : names) {
    std::ifstream in(kFolder + "/" + name, std::ios::binary);
    contents.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  std::vector<tessera_file> files;
  for (std::size_t i = 0; i < names.size(); ++i) {
    tessera_file file = init<tessera_file>();
    file.name = names[i].c_str();
    file.memory = contents[i].data();
    file.memory_bytes = contents[i].size();
    files.push_back(file);
  }
  tessera_translator_desc d = desc();
  d.path = nullptr;
  d.files = files.data();
  d.file_count = 4;
  Translator memory = take(context().translator(d)), folder = take(context().translator(desc()));
  EXPECT_EQ(take(memory.translate("ab")).hypotheses[0].ids, take(folder.translate("ab")).hypotheses[0].ids);
  d.file_count = 3;
  expect_failure(context().translator(d), TESSERA_BAD_MODEL, "no file *.safetensors");
  d.path = kFolder.c_str();
  expect_failure(context().translator(d), TESSERA_INVALID_ARGUMENT, "either path or files");
}

TEST_P(TranslatorTest, WhatDoesNotFit) {
  Translator translator = take(context().translator(desc(2)));
  expect_failure(translator.translate(""), TESSERA_INVALID_ARGUMENT, "no tokens");
  expect_failure(translator.translate("a?"), TESSERA_INVALID_ARGUMENT, "U+003F");
  expect_failure(translator.translate("a", {.beams = 3}), TESSERA_INVALID_ARGUMENT, "made for 1 to 2");
  expect_failure(translator.translate("a", {.max_tokens = 15}), TESSERA_INVALID_ARGUMENT, "at most 14");
  expect_failure(translator.translate("a", {.prefix = "x"}), TESSERA_INVALID_ARGUMENT, "target.txt");
  expect_failure(context().translator(desc(1000)), TESSERA_INVALID_ARGUMENT, "beams");
  tessera_translator_desc none = desc();
  none.path = "/nowhere";
  expect_failure(context().translator(none), TESSERA_IO, "/nowhere");
  tessera_error error;
  auto translate = init<tessera_translate_desc>();
  EXPECT_EQ(tessera_translate(nullptr, "a", 1, &translate, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_EQ(tessera_translate(translator.get(), nullptr, 1, &translate, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_EQ(tessera_translate(translator.get(), "a", 1, nullptr, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_EQ(tessera_translator_create(context().get(), nullptr, nullptr, &error), TESSERA_INVALID_ARGUMENT);
  tessera_translator_destroy(nullptr);
}

TEST_P(TranslatorTest, InPrecisionMixed) {
  tessera_translator_desc d = desc(3);
  d.precision = TESSERA_PRECISION_MIXED;
  Translator translator = take(context().translator(d));
  EXPECT_EQ(take(translator.translate("gacfg")).source_ids, (Ids{9, 3, 5, 8, 9}));
  if (on_gpu()) take(translator.verify(init<tessera_verify_desc>()));
  d.precision = static_cast<tessera_precision>(2);
  expect_failure(context().translator(d), TESSERA_INVALID_ARGUMENT, "precision 2 is not a tessera_precision");
}

TEST_P(TranslatorTest, Cancelled) {
  bool stop = false;
  Translator translator = take(
      context().translator(desc(), [&](std::string_view, std::uint64_t, std::uint64_t) { return !stop; }));
  stop = true;
  expect_failure(translator.translate("a"), TESSERA_CANCELLED, "");
  stop = false;
  take(translator.translate("a"));
}

TEST_P(TranslatorTest, Verifies) {
  Translator translator = take(context().translator(desc(3)));
  auto verify = init<tessera_verify_desc>();
  if (on_gpu()) {
    take(translator.verify(verify));
    return;
  }
  expect_failure(translator.verify(verify), TESSERA_INVALID_ARGUMENT, "choose a device");
}

}  // namespace
}  // namespace tessera::test
