// Text from a session: stop rules, and no half characters.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "session/decoder_session.h"

namespace tessera {

enum class Stop : int { length = 0, eos = 1, text = 2, context = 3, callback = 4 };  // as tessera_stop

struct GenerateOptions {
  std::uint32_t max_tokens = 256;
  bool ignore_eos = false;
  std::vector<std::string> stop_texts;
  std::function<bool(std::string_view)> on_text;  // returns true to stop
  std::function<bool(TokenId)> on_token;          // every id chosen; returns true to stop
};

// Generates over and over on one session; a character whose tokens are split between two calls comes out
// whole in the second one. Stop texts are looked for within one call.
class Generator {
 public:
  // Both must outlive it.
  Generator(DecoderSession& session, const Tokenizer& tokenizer) : session_(session), tokenizer_(tokenizer) {}
  // invalid_argument for a stop text that is not UTF-8; else the errors of DecoderSession::next().
  Result<Stop> run(const GenerateOptions& options);

 private:
  void begin();

  DecoderSession& session_;
  const Tokenizer& tokenizer_;
  std::optional<Detokenizer> detokenizer_;
  std::size_t tokens_seen_ = 0;  // of the session, when the last call ended
};

// Passes text on except what may be the beginning of a stop text.
class StopFilter {
 public:
  explicit StopFilter(std::vector<std::string> stops);  // empty strings are ignored
  // The text that is certain now. After a stop text was seen, stopped() is true and nothing more comes out.
  std::string push(std::string_view text);
  std::string finish();  // what was held back, when generation ended otherwise
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace tessera
