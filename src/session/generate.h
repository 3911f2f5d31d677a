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

// Passes text on except what may be the beginning of a stop text.
class StopFilter {
 public:
  // Empty strings are ignored. `held`: what another one held back.
  explicit StopFilter(std::vector<std::string> stops, std::string held = {});
  // The text that is certain now, until the next call. After a stop text was seen, stopped() is true and
  // nothing more comes out.
  std::string_view push(std::string_view text);
  std::string finish();  // what was held back, when generation ended otherwise
  bool stopped() const { return stopped_; }
  std::string_view held() const { return stopped_ ? std::string_view() : held_; }

 private:
  std::vector<std::string> stops_;
  std::string held_, out_;
  bool stopped_ = false;
};

// Generates over and over on one session; a character whose tokens are split between two generations comes
// out whole in the second one. Stop texts are looked for within one.
class Generator {
 public:
  // Both must outlive it.
  Generator(DecoderSession& session, const Tokenizer& tokenizer) : session_(session), tokenizer_(tokenizer) {}

  // begin, and all that it takes.
  Result<Stop> run(GenerateOptions options);

  // Replaces the generation before, which must have ended. invalid_argument for a stop text that is not
  // UTF-8; else the errors of DecoderSession::start().
  Result<void> begin(GenerateOptions options);
  // Hands out the text of what has ended, then submits (DecoderSession::submit). An error ends the
  // generation.
  Result<Submitted> step(const StepLimits& limits);
  // Hands out the text of what has ended, within timeout_ns. Whether nothing is in flight any more.
  Result<bool> poll(std::uint64_t timeout_ns);
  void cancel();
  void forget();  // the generation, without a word

  // The session and what is held back of its text. Of a generation that is under way, the next one begins
  // with what is held back; first the text of what has ended is handed out.
  Result<void> save(const StateWriter::Sink& sink);
  // Ends the generation, without a word.
  Result<void> restore(std::span<const std::byte> bytes);

  bool begun() const { return begun_; }                   // ever
  std::optional<Stop> ended() const { return ended_; }    // why the generation ended; none while it goes on
  std::uint32_t generated() const { return generated_; }  // tokens of this generation

 private:
  Result<void> collect();
  void accept(TokenId id);
  bool emit(std::string_view text) const;
  void end(Stop stop);
  template <typename T>
  Result<T> checked(Result<T> result);

  DecoderSession& session_;
  const Tokenizer& tokenizer_;
  GenerateOptions options_;
  StopFilter filter_{std::vector<std::string>()};
  std::optional<Detokenizer> detokenizer_;
  std::size_t tokens_seen_ = 0;  // of the session, when the last generation ended
  std::string carried_;          // text that a saved generation held back
  bool begun_ = false;
  std::optional<Stop> ended_;
  std::uint32_t generated_ = 0;
};

}  // namespace tessera
