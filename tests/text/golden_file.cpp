#include "golden_file.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/text.h"

namespace tessera::test {
namespace {

using nlohmann::json;

std::string from_hex(const std::string& hex) {
  std::string out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    out += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return out;
}

VocabSpec vocab_of(const json& j) {
  VocabSpec spec;
  spec.model = j.value("model", "");
  spec.pre = j.value("pre", "");
  spec.tokens = j.value("tokens", std::vector<std::string>());
  spec.scores = j.value("scores", std::vector<float>());
  spec.types = j.value("types", std::vector<std::uint32_t>());
  spec.merges = j.value("merges", std::vector<std::string>());
  spec.bos = j.value("bos", std::int64_t{-1});
  spec.eos = j.value("eos", std::int64_t{-1});
  spec.unk = j.value("unk", std::int64_t{-1});
  spec.sep = j.value("sep", std::int64_t{-1});
  spec.cls = j.value("cls", std::int64_t{-1});
  spec.pad = j.value("pad", std::int64_t{-1});
  spec.add_space_prefix = j.value("add_space_prefix", true);
  spec.remove_extra_whitespaces = j.value("remove_extra_whitespaces", false);
  spec.lowercase = j.value("lowercase", true);
  spec.normalizer_charsmap = from_hex(j.value("charsmap", ""));
  return spec;
}

GoldenCase case_of(const json& j) {
  GoldenCase golden;
  if (j.contains("repeat")) {
    const std::string unit = j["repeat"][0];
    const std::size_t times = j["repeat"][1];
    for (std::size_t i = 0; i < times; ++i) golden.text += unit;
    golden.name = quote(unit) + " x " + std::to_string(times);
    golden.count = j["count"].get<std::size_t>();
    golden.fnv = j["fnv"];
    return golden;
  }
  golden.text = j.contains("hex") ? from_hex(j["hex"]) : j["text"].get<std::string>();
  golden.name = quote(golden.text);
  golden.ids = j["ids"].get<std::vector<TokenId>>();
  if (j.contains("decoded")) golden.decoded = j["decoded"].get<std::string>();
  return golden;
}

}  // namespace

std::string data_path(const std::string& name) {
  return std::string(TESSERA_SOURCE_DIR "/tests/data/text/") + name;
}

GoldenFile read_golden(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const json content = json::parse(in, nullptr, false);
  if (content.is_discarded()) {
    ADD_FAILURE() << path << " is missing or no JSON";
    return {};
  }
  GoldenFile file;
  // The goldens of released models are a bare list.
  if (content.contains("vocab")) file.vocab = vocab_of(content["vocab"]);
  for (const json& j : content.is_array() ? content : content["cases"]) file.cases.push_back(case_of(j));
  return file;
}

std::string fnv_of(const std::vector<TokenId>& ids) {
  std::uint64_t value = 0xCBF29CE484222325;
  for (const TokenId id : ids) {
    for (int shift = 0; shift < 32; shift += 8) value = (value ^ (id >> shift & 0xFF)) * 0x100000001B3;
  }
  char hex[17];
  std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(value));
  return hex;
}

void expect_case(const Tokenizer& tokenizer, const GoldenCase& golden) {
  const auto ids = encode(tokenizer, golden.text);
  if (golden.count) {
    EXPECT_EQ(ids.size(), *golden.count) << golden.name;
    EXPECT_EQ(fnv_of(ids), golden.fnv) << golden.name;
    return;
  }
  EXPECT_EQ(ids, golden.ids) << golden.name;
  if (golden.decoded) {
    EXPECT_EQ(decode(tokenizer, golden.ids), *golden.decoded) << golden.name;
  }
}

std::string decode(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, bool show_special) {
  Detokenizer detokenizer(tokenizer, true, show_special);
  std::string text;
  for (const TokenId id : ids) text += detokenizer.push(id);
  return text + detokenizer.finish();
}

std::unique_ptr<Tokenizer> make_tokenizer(VocabSpec spec) {
  auto made = Tokenizer::create(std::move(spec));
  if (made.ok()) return *std::move(made);
  ADD_FAILURE() << made.error().message;
  return nullptr;
}

std::vector<TokenId> encode(const Tokenizer& tokenizer, std::string_view text, bool special,
                            bool parse_special) {
  auto ids = tokenizer.encode(text, special, parse_special);
  if (ids.ok()) return *std::move(ids);
  ADD_FAILURE() << ids.error().message;
  return {};
}

}  // namespace tessera::test
