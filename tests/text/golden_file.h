// Vocabularies and cases as tools/goldens/text.py writes them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace tessera::test {

struct GoldenCase {
  std::string name;  // for messages
  std::string text;
  std::vector<TokenId> ids;  // empty when only their count and hash are known
  std::optional<std::size_t> count;
  std::string fnv;
  std::optional<std::string> decoded;
};

struct GoldenFile {
  VocabSpec vocab;  // empty where the file has cases only
  std::vector<GoldenCase> cases;
};

// Fails the test when the file cannot be read.
GoldenFile read_golden(const std::string& path);
std::string data_path(const std::string& name);  // in tests/data/text

// FNV-1a over the ids' little-endian bytes.
std::string fnv_of(const std::vector<TokenId>& ids);
void expect_case(const Tokenizer& tokenizer, const GoldenCase& golden);
std::string decode(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, bool show_special = false);
// Fails the test and gives null when the vocabulary is refused.
std::unique_ptr<Tokenizer> make_tokenizer(VocabSpec spec);
std::vector<TokenId> encode(const Tokenizer& tokenizer, std::string_view text, bool special = false,
                            bool parse_special = false);

}  // namespace tessera::test
