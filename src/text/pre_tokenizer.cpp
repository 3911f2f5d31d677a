#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pre_tokenizer.h"

#include <pcre2.h>

#include <algorithm>
#include <array>

#include "base/text.h"
#include "text/utf8.h"

namespace tessera {
namespace {

// The patterns say \s, which means White_Space to the engines that the families were trained with; to PCRE2
// it also means U+180E, hence the list.
#define TSR_SPACES \
  R"(\t-\r\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})"
#define TSR_S "[" TSR_SPACES "]"
#define TSR_TAIL "|" TSR_S "+(?![^" TSR_SPACES "])|" TSR_S "+"
#define TSR_MARKS "[^" TSR_SPACES R"(\p{L}\p{N}]+)"
#define TSR_ENDINGS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"

// https://github.com/openai/gpt-2/blob/master/src/encoder.py
constexpr const char* kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?)" TSR_MARKS TSR_TAIL;
// tokenizer.json of Llama 3 and of Qwen2: they differ in how many digits make a word.
#define TSR_CL100K(digits)                                                               \
  TSR_ENDINGS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|)" digits "| ?" TSR_MARKS R"([\r\n]*|)" TSR_S \
              R"(*[\r\n]+)" TSR_TAIL
constexpr const char* kLlama3 = TSR_CL100K(R"(\p{N}{1,3})");
constexpr const char* kQwen2 = TSR_CL100K(R"(\p{N})");
// o200k (GPT-4o, Llama 4) and Mistral's tekken: a word changes from upper to lower case once.
#define TSR_UPPER R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])"
#define TSR_LOWER R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])"
#define TSR_O200K(endings, digits)                                                               \
  R"([^\r\n\p{L}\p{N}]?)" TSR_UPPER "*" TSR_LOWER "+" endings R"(|[^\r\n\p{L}\p{N}]?)" TSR_UPPER \
  "+" TSR_LOWER "*" endings "|" digits "| ?" TSR_MARKS R"([\r\n/]*|)" TSR_S R"(*[\r\n]+)" TSR_TAIL
constexpr const char* kGpt4o = TSR_O200K(TSR_ENDINGS "?", R"(\p{N}{1,3})");
constexpr const char* kTekken = TSR_O200K("", R"(\p{N})");
constexpr const char* kDigit = R"(\p{N})";
// What readers of GGUF apply to a file that names no pre-tokenizer.
constexpr const char* kMarks = R"([\p{P}$+<=>^~|]+)";
constexpr const char* kDigits = R"(\p{N}+)";
constexpr const char* kThreeDigits = "[0-9][0-9][0-9]";

struct Known {
  const char* name;
  std::array<const char*, 4> stages;
  bool composes = false;
  bool whole_words = false;
};

constexpr Known kKnown[] = {
    {"default", {kMarks, kGpt2, kDigits, kThreeDigits}},
    {"gpt-2", {kGpt2}},
    {"phi-2", {kGpt2}},
    {"olmo", {kGpt2}},
    {"mpt", {kGpt2}},
    {"roberta-bpe", {kGpt2}},
    {"jina-v2-es", {kGpt2}},
    {"jina-v2-de", {kGpt2}},
    {"smollm", {kDigit, kGpt2}},
    {"starcoder", {kDigit, kGpt2}},
    {"refact", {kDigit, kGpt2}},
    {"codeshell", {kDigit, kGpt2}},
    {"llama-bpe", {kLlama3}, false, true},
    {"llama3", {kLlama3}, false, true},
    {"llama-v3", {kLlama3}, false, true},
    {"falcon3", {kLlama3}, false, true},
    {"pixtral", {kLlama3}, false, true},
    {"dbrx", {kLlama3}},
    {"smaug-bpe", {kLlama3}},
    {"qwen2", {kQwen2}, true, false},
    {"deepseek-r1-qwen", {kQwen2}},
    {"stablelm2", {kQwen2}},
    {"gpt-4o", {kGpt4o}},
    {"llama4", {kGpt4o}},
    {"tekken", {kTekken}, false, true},
};

std::string pcre_message(int code) {
  std::array<PCRE2_UCHAR, 160> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

struct MatchData {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  ~MatchData() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
  }
};

// The next match at or after `from`, as pcre2_match returns it.
int match_from(const pcre2_code* code, std::string_view text, std::size_t from, const MatchData& match) {
  // The text is known to be valid; checking it again in every call would be quadratic.
  const auto* bytes = reinterpret_cast<PCRE2_SPTR>(text.data());
  int found = pcre2_match(code, bytes, text.size(), from, PCRE2_NO_UTF_CHECK, match.data, match.context);
  if (found ==
      PCRE2_ERROR_JIT_STACKLIMIT) {  // compiled code has a small stack, the interpreter uses the heap
    found = pcre2_match(code, bytes, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match.data,
                        match.context);
  }
  return found;
}

Result<void> split_by(const pcre2_code* code, std::string_view text, const MatchData& match,
                      std::vector<std::string_view>& words) {
  std::size_t done = 0;  // what is before this is in `words`
  const auto cut = [&](std::size_t end) {
    if (end > done) words.push_back(text.substr(done, end - done));
    done = std::max(done, end);
  };
  for (std::size_t at = 0; at < text.size();) {
    const int found = match_from(code, text, at, match);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      return Error{Code::invalid_argument,
                   "text: the pre-tokenizer's pattern fails after byte " + std::to_string(at) +
                       " of a part of " + std::to_string(text.size()) + " bytes: " + pcre_message(found)};
    }
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.data);
    cut(range[0]);
    cut(range[1]);
    at = std::max(range[1], at + decode_utf8(text, at).bytes);
  }
  cut(text.size());
  return {};
}

}  // namespace

Result<PreTokenizer::Pattern> PreTokenizer::compile(const char* pattern) {
  int error = 0;
  PCRE2_SIZE where = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern), PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP, &error, &where, nullptr);
  if (code == nullptr) {
    return Error{Code::internal, "pre-tokenizer: the pattern is wrong at " + std::to_string(where) + ": " +
                                     pcre_message(error)};
  }
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where there is no JIT, matching interprets
  return Pattern(code, [](const pcre2_code* c) { pcre2_code_free(const_cast<pcre2_code*>(c)); });
}

Result<PreTokenizer> PreTokenizer::create(const std::string& name) {
  const std::string_view wanted = name.empty() ? "default" : std::string_view(name);
  const auto known =
      std::find_if(std::begin(kKnown), std::end(kKnown), [&](const Known& k) { return k.name == wanted; });
  if (known == std::end(kKnown)) {
    std::string message = "vocabulary: pre-tokenizer " + quote(name) + " is not one of ";
    for (const Known& k : kKnown) message += std::string(&k == kKnown ? "" : ", ") + k.name;
    return Error{Code::unsupported, std::move(message)};
  }
  PreTokenizer made;
  made.composes_ = known->composes;
  made.whole_words_ = known->whole_words;
  for (const char* stage : known->stages) {
    if (stage == nullptr) break;
    TSR_TRY(Pattern pattern, compile(stage));
    made.stages_.push_back(std::move(pattern));
  }
  return made;
}

Result<void> PreTokenizer::split(std::string_view text, std::vector<std::string_view>& words) const {
  const MatchData match;
  if (match.data == nullptr || match.context == nullptr) {
    return Error{Code::out_of_memory, "text: no memory to match the pre-tokenizer's pattern"};
  }
  // No pattern does more than a few steps a character before it matches or fails; a pattern that did would
  // stop here with an error.
  const auto steps = std::min<std::size_t>(1'000'000 + 32 * text.size(), 0xFFFFFFFF);
  pcre2_set_match_limit(match.context, static_cast<std::uint32_t>(steps));
  pcre2_set_heap_limit(match.context, 1u << 20);  // KiB
  std::vector<std::string_view> parts{text};
  for (const Pattern& stage : stages_) {
    std::vector<std::string_view> cut;
    for (const std::string_view part : parts) TSR_CHECK(split_by(stage.get(), part, match, cut));
    parts = std::move(cut);
  }
  words.insert(words.end(), parts.begin(), parts.end());
  return {};
}

}  // namespace tessera
