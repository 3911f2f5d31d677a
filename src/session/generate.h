// Text from a session: stop rules, and no half characters.
#pragma once

#include <functional>
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
  std::function<void(TokenId)> on_token;
};

Result<Stop> generate(DecoderSession& session, const Tokenizer& tokenizer, const GenerateOptions& options);

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
