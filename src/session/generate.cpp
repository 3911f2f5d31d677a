#include "session/generate.h"

#include <algorithm>

#include "base/text.h"

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

void Generator::begin() {
  if (detokenizer_ && session_.tokens().size() == tokens_seen_) return;  // goes on where the last call ended
  // Only the very first word of a text loses its space; BOS and the like are no text.
  const auto tokens = session_.tokens();
  const bool at_start = std::all_of(tokens.begin(), tokens.end(),
                                    [&](TokenId id) { return tokenizer_.piece(id, false).empty(); });
  detokenizer_.emplace(tokenizer_, at_start);
}

Result<Stop> Generator::run(const GenerateOptions& options) {
  for (const std::string& stop : options.stop_texts)
    if (!valid_utf8(stop))
      return Error{Code::invalid_argument, "the stop text " + quote(stop) + " is not UTF-8"};
  begin();
  StopFilter filter(options.stop_texts);
  const auto emit = [&](const std::string& text) {
    return !text.empty() && options.on_text && options.on_text(text);
  };
  Stop stop = Stop::length;
  bool ended = false;
  for (std::uint32_t i = 0; i < options.max_tokens && !ended; ++i) {
    if (session_.full()) {
      stop = Stop::context;
      break;
    }
    TSR_TRY(const TokenId id, session_.next());
    const bool told = options.on_token && options.on_token(id);
    if (!options.ignore_eos && tokenizer_.is_end(id)) {
      emit(filter.push(detokenizer_->finish()));
      stop = Stop::eos;
    } else if (emit(filter.push(detokenizer_->push(id))) || told) {
      stop = Stop::callback;
    } else if (filter.stopped()) {
      stop = Stop::text;
    }
    ended = stop != Stop::length;
  }
  if (!filter.stopped()) emit(filter.finish());
  tokens_seen_ = session_.tokens().size();
  return stop;
}

}  // namespace tessera
