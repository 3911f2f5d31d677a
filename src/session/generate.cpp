#include "session/generate.h"

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "text/utf8.h"

namespace tessera {

namespace {

constexpr std::uint64_t kWaitNs = 1'000'000'000;

// Of a saved session: a byte of flags, one that counts the beginning of a character, these, then text.
constexpr char kHasText = 1, kAtStart = 2;

}  // namespace

StopFilter::StopFilter(std::vector<std::string> stops, std::string held)
    : stops_(std::move(stops)), held_(std::move(held)) {
  std::erase(stops_, std::string());
}

std::string_view StopFilter::push(std::string_view text) {
  if (stopped_) return {};
  held_ += text;
  std::size_t found = std::string::npos;
  for (const std::string& stop : stops_) found = std::min(found, held_.find(stop));
  if (found != std::string::npos) {
    stopped_ = true;
    return std::string_view(held_).substr(0, found);
  }
  std::size_t keep = 0;  // the longest end of held_ that begins a stop text
  for (const std::string& stop : stops_)
    for (std::size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n)
      if (held_.ends_with(std::string_view(stop).substr(0, n))) keep = n;
  out_.assign(held_, 0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return out_;
}

std::string StopFilter::finish() { return stopped_ ? std::string() : std::move(held_); }

Result<void> Generator::begin(GenerateOptions options) {
  if (begun_ && !ended_)
    return Error{Code::invalid_argument, "a generation is under way: end or cancel it first"};
  for (const std::string& stop : options.stop_texts)
    if (!valid_utf8(stop))
      return Error{Code::invalid_argument, "the stop text " + quote(stop) + " is not UTF-8"};
  const bool room = !session_.full();
  if (room && options.max_tokens > 0) TSR_CHECK(session_.start(options.max_tokens));
  // Else it goes on where the last one ended.
  if (!detokenizer_ || session_.tokens().size() != tokens_seen_) {
    // Only the very first word of a text loses its space; BOS and the like are no text.
    const auto tokens = session_.tokens();
    const bool at_start = std::all_of(tokens.begin(), tokens.end(),
                                      [&](TokenId id) { return tokenizer_.piece(id, false).empty(); });
    detokenizer_.emplace(tokenizer_, at_start);
  }
  options_ = std::move(options);
  filter_ = StopFilter(options_.stop_texts, std::exchange(carried_, {}));
  begun_ = true;
  ended_.reset();
  generated_ = 0;
  if (options_.max_tokens == 0)
    end(Stop::length);
  else if (!room)
    end(Stop::context);
  return {};
}

Result<Submitted> Generator::step(const StepLimits& limits) {
  TSR_CHECK(poll(0));
  if ((!begun_ || ended_) && !session_.loading().ready()) {
    TSR_CHECK(session_.load());
    Submitted out;
    out.loading = true;
    return out;
  }
  if (!begun_ || ended_) return Submitted{};
  return checked(session_.submit(limits));
}

Result<bool> Generator::poll(std::uint64_t timeout_ns) {
  TSR_TRY(const bool idle, checked(session_.poll(timeout_ns)));
  TSR_CHECK(collect());
  return idle;
}

Result<void> Generator::collect() {
  while (begun_ && !ended_) {
    TSR_TRY(const std::optional<TokenId> id, checked(session_.take()));
    if (!id) return {};
    accept(*id);
  }
  return {};
}

void Generator::accept(TokenId id) {
  ++generated_;
  const bool told = options_.on_token && options_.on_token(id);
  if (!options_.ignore_eos && tokenizer_.is_end(id)) {
    emit(filter_.push(detokenizer_->finish()));
    return end(Stop::eos);
  }
  if (emit(filter_.push(detokenizer_->push(id)))) {  // it wants no more: the next generation begins with it
    carried_ = filter_.held();
    filter_ = StopFilter({});
    return end(Stop::callback);
  }
  if (told) return end(Stop::callback);
  if (filter_.stopped()) return end(Stop::text);
  if (generated_ == options_.max_tokens) return end(Stop::length);
  if (session_.full()) end(Stop::context);
}

bool Generator::emit(std::string_view text) const {
  return !text.empty() && options_.on_text && options_.on_text(text);
}

void Generator::end(Stop stop) {
  session_.stop();
  ended_ = stop;
  if (!filter_.stopped()) emit(filter_.finish());
  tokens_seen_ = session_.tokens().size();
}

void Generator::cancel() {
  if (begun_ && !ended_) end(Stop::callback);
}

void Generator::forget() {
  session_.stop();
  begun_ = false;
  ended_.reset();
  detokenizer_.reset();
  carried_.clear();
}

Result<void> Generator::save(const StateWriter::Sink& sink) {
  for (bool idle = false; !idle;) {
    TSR_TRY(idle, poll(kWaitNs));
  }
  const bool under_way = begun_ && !ended_;
  std::string text(2, '\0');
  if (detokenizer_ && (under_way || session_.tokens().size() == tokens_seen_)) {
    text[0] = static_cast<char>(kHasText | (detokenizer_->at_start() ? kAtStart : 0));
    text[1] = static_cast<char>(detokenizer_->held().size());
    text += detokenizer_->held();
  }
  text += under_way ? filter_.held() : std::string_view(carried_);
  return session_.save(text, sink);
}

Result<void> Generator::restore(std::span<const std::byte> bytes) {
  auto restored = session_.restore(bytes);
  if (!restored.ok()) {
    if (session_.tokens().empty()) forget();  // the device failed
    return restored.error();
  }
  forget();
  const std::string text = *std::move(restored);
  if (text.size() < 2) return {};
  const auto held = std::min<std::size_t>(static_cast<unsigned char>(text[1]), text.size() - 2);
  if ((text[0] & kHasText) != 0) {
    detokenizer_.emplace(tokenizer_, (text[0] & kAtStart) != 0);
    detokenizer_->go_on(std::string_view(text).substr(2, held));
    tokens_seen_ = session_.tokens().size();
  }
  carried_ = to_valid_utf8(std::string_view(text).substr(2 + held));
  return {};
}

template <typename T>
Result<T> Generator::checked(Result<T> result) {
  if (!result.ok()) {
    session_.stop();
    begun_ = false;
  }
  return result;
}

Result<Stop> Generator::run(GenerateOptions options) {
  TSR_CHECK(begin(std::move(options)));
  while (!ended_) {
    TSR_CHECK(step({}));
    TSR_CHECK(poll(kWaitNs));
  }
  return *ended_;
}

}  // namespace tessera
