#include "text/tokenizer.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/text.h"
#include "text/family.h"
#include "text/sentencepiece.h"
#include "text/utf8.h"

namespace tessera {
namespace {

// How the model families spell "the text, or this turn of it, ends here".
constexpr std::array<std::string_view, 22> kEndMarks = {"</s>",
                                                        "<eos>",
                                                        "[EOS]",
                                                        "<|endoftext|>",
                                                        "<|end_of_text|>",
                                                        "<|eot_id|>",
                                                        "<|eom_id|>",
                                                        "<|eot|>",
                                                        "<|eom|>",
                                                        "<|im_end|>",
                                                        "<|end|>",
                                                        "<|return|>",
                                                        "<end_of_turn>",
                                                        "<turn|>",
                                                        "<EOT>",
                                                        "_<EOT>",
                                                        "[EOT]",
                                                        "<|eos|>",
                                                        "<end_of_utterance>",
                                                        "<|END_OF_TURN_TOKEN|>",
                                                        "<|endofturn|>",
                                                        "<\xEF\xBD\x9C"
                                                        "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>"};

constexpr std::int64_t kUnset = 0xFFFFFFFF;  // -1 as files write it into an unsigned field

Error bad(std::string what) { return Error{Code::bad_model, "vocabulary: " + std::move(what)}; }

Result<void> check_id(const char* name, std::int64_t& id, std::size_t tokens) {
  if (id < 0 || id == kUnset) {
    id = -1;
    return {};
  }
  if (static_cast<std::uint64_t>(id) < tokens) return {};
  return bad(std::string(name) + " token id " + std::to_string(id) + " is not below the " +
             std::to_string(tokens) + " tokens");
}

Result<void> check_spec(VocabSpec& spec) {
  const std::size_t count = spec.tokens.size();
  if (count == 0) return bad("it has no tokens");
  if (count >= (std::size_t{1} << 31)) return bad(std::to_string(count) + " tokens are too many");
  const auto check_count = [&](const char* what, std::size_t size) -> Result<void> {
    if (size == 0 || size == count) return {};
    return bad(std::to_string(size) + " " + what + " for " + std::to_string(count) + " tokens");
  };
  TSR_CHECK(check_count("scores", spec.scores.size()));
  TSR_CHECK(check_count("token types", spec.types.size()));
  for (std::size_t i = 0; i < spec.scores.size(); ++i) {
    if (!std::isfinite(spec.scores[i]))
      return bad("the score of token " + std::to_string(i) + " is not finite");
  }
  TSR_CHECK(check_id("BOS", spec.bos, count));
  TSR_CHECK(check_id("EOS", spec.eos, count));
  TSR_CHECK(check_id("unknown", spec.unk, count));
  TSR_CHECK(check_id("separator", spec.sep, count));
  TSR_CHECK(check_id("CLS", spec.cls, count));
  TSR_CHECK(check_id("padding", spec.pad, count));
  return check_id("EOT", spec.eot, count);
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> Tokenizer::create(VocabSpec spec) {
  TSR_CHECK(check_spec(spec));
  const auto make = [&]() -> Result<std::unique_ptr<Tokenizer>> {
    if (spec.model == "llama") return create_sentencepiece_bpe(std::move(spec));
    if (spec.model == "t5") return create_unigram(std::move(spec));
    if (spec.model == "gpt2") return create_byte_bpe(std::move(spec));
    if (spec.model == "bert") return create_wordpiece(std::move(spec));
    return Error{Code::unsupported,
                 "vocabulary: tokenizer model " + quote(spec.model) + " is not one of llama, t5, gpt2, bert"};
  };
  TSR_TRY(std::unique_ptr<Tokenizer> tokenizer, make());
  const VocabSpec& made = tokenizer->spec_;
  std::vector<TokenId>& ends = tokenizer->ends_;
  for (const std::int64_t id : {made.eos, made.eot}) {
    if (id >= 0) ends.push_back(static_cast<TokenId>(id));
  }
  for (TokenId id = 0; id < tokenizer->size(); ++id) {
    if (std::find(kEndMarks.begin(), kEndMarks.end(), made.tokens[id]) != kEndMarks.end()) ends.push_back(id);
  }
  std::sort(ends.begin(), ends.end());
  return tokenizer;
}

bool Tokenizer::is_end(TokenId id) const { return std::binary_search(ends_.begin(), ends_.end(), id); }

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool at_start, bool show_special)
    : tokenizer_(&tokenizer),
      at_start_(at_start && tokenizer.drops_first_space()),
      show_special_(show_special) {}

std::string_view Detokenizer::push(TokenId id) {
  const std::size_t before = held_.size();
  tokenizer_->append_piece(id, show_special_, held_);
  if (at_start_ && held_.size() > before) {
    const std::string_view piece = std::string_view(held_).substr(before);
    // The space before SentencePiece's mark for the unknown is the mark's own.
    if (piece.front() == ' ' && piece != kUnknownSurface) held_.erase(before, 1);
    // A model that removes extra spaces drops one of every piece until there is text.
    at_start_ = held_.size() == before && tokenizer_->spec().remove_extra_whitespaces;
  }
  out_.clear();
  std::size_t at = 0;
  while (at < held_.size()) {
    const std::size_t run = valid_utf8_run(held_, at);
    out_.append(held_, at, run);
    at += run;
    if (at == held_.size()) break;
    const Utf8Char bad_char = decode_utf8(held_, at);
    if (bad_char.cut) break;
    out_ += kReplacementUtf8;
    at += bad_char.bytes;
  }
  held_.erase(0, at);
  return out_;
}

std::string Detokenizer::finish() {
  at_start_ = false;
  return to_valid_utf8(std::exchange(held_, {}));
}

}  // namespace tessera
