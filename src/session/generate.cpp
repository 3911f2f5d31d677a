#include "session/generate.h"

#include <algorithm>

namespace tessera {

StopFilter::StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase(stops_, std::string());
}

std::string StopFilter::push(std::string_view text) {
  if (stopped_) return {};
  held_ += text;
  std::size_t found = std::string::npos;
  for (const std::string& stop : stops_) found = std::min(found, held_.find(stop));
  if (found != std::string::npos) {
    stopped_ = true;
    return held_.substr(0, found);
  }
  std::size_t keep = 0;  // the longest end of held_ that begins a stop text
  for (const std::string& stop : stops_)
    for (std::size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n)
      if (held_.ends_with(std::string_view(stop).substr(0, n))) keep = n;
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return out;
}

std::string StopFilter::finish() { return stopped_ ? std::string() : std::move(held_); }

Result<Stop> generate(DecoderSession& session, const Tokenizer& tokenizer, const GenerateOptions& options) {
  // Only the very first word of a text loses its space; a lone BOS is no text.
  const bool at_start = session.tokens().size() <= 1;
  Detokenizer detokenizer(tokenizer, at_start);
  StopFilter filter(options.stop_texts);
  const auto emit = [&](const std::string& text) {
    return !text.empty() && options.on_text && options.on_text(text);
  };

  Stop stop = Stop::length;
  for (std::uint32_t i = 0; i < options.max_tokens; ++i) {
    if (session.full()) {
      stop = Stop::context;
      break;
    }
    TSR_TRY(const TokenId id, session.next());
    if (options.on_token) options.on_token(id);
    if (!options.ignore_eos && tokenizer.is_end(id)) {
      stop = Stop::eos;
      break;
    }
    if (emit(filter.push(detokenizer.push(id)))) return Stop::callback;
    if (filter.stopped()) return Stop::text;
  }
  std::string rest = filter.push(detokenizer.finish());
  if (filter.stopped()) stop = Stop::text;
  emit(rest + filter.finish());
  return stop;
}

}  // namespace tessera
