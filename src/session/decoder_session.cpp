#include "session/decoder_session.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace tessera {
namespace {

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

DecoderSession::DecoderSession(std::unique_ptr<Walker> walker, DecoderProgram decoder, LogitsSink logits,
                               Progress progress)
    : walker_(std::move(walker)),
      decoder_(std::move(decoder)),
      logits_(std::move(logits)),
      progress_(std::move(progress)) {}

Result<void> DecoderSession::set_sampler(const SamplerParams& sampler) {
  return walker_->write(decoder_.sampler, 0, std::as_bytes(std::span(&sampler, 1)));
}

void DecoderSession::reset() {
  tokens_.clear();
  position_ = 0;
  sampled_ = false;
}

Result<void> DecoderSession::append(std::span<const TokenId> ids) {
  if (ids.empty()) return {};
  for (TokenId id : ids)
    if (id >= decoder_.config.vocab)
      return Error{Code::invalid_argument, "token id " + std::to_string(id) +
                                               " is outside the vocabulary of " +
                                               std::to_string(decoder_.config.vocab)};
  if (tokens_.size() + ids.size() > decoder_.context)
    return Error{Code::invalid_argument, std::to_string(tokens_.size() + ids.size()) +
                                             " tokens do not fit the context of " +
                                             std::to_string(decoder_.context)};
  tokens_.insert(tokens_.end(), ids.begin(), ids.end());
  sampled_ = false;
  return {};
}

Result<TokenId> DecoderSession::next() {
  if (position_ == tokens_.size())
    return Error{Code::invalid_argument, "there is no token to go on from: append a prompt first"};
  if (full())
    return Error{Code::invalid_argument,
                 "the context of " + std::to_string(decoder_.context) + " tokens is full"};
  const bool in_step = std::exchange(sampled_, false);  // after a failure only what is written here is sure
  TSR_CHECK(tokens_.size() - position_ == 1 ? decode(in_step) : prefill());
  TSR_TRY(const TokenId id, read_token());
  tokens_.push_back(id);
  sampled_ = true;
  return id;
}

Result<void> DecoderSession::decode(bool in_step) {
  const Stopwatch watch;
  const WalkerStats before = walker_->stats();
  if (!in_step) {
    TSR_CHECK(write_pending_tokens());
    TSR_CHECK(write_state(1));
  }
  TSR_CHECK(walker_->run(decoder_.decode));
  if (logits_) TSR_CHECK(emit_logits(decoder_.logits, position_, 1));
  ++position_;
  stats_.decode_tokens += 1;
  stats_.decode_seconds += watch.seconds();
  stats_.decode_submits += walker_->stats().submits - before.submits;
  stats_.decode_records += walker_->stats().records - before.records;
  return {};
}

Result<void> DecoderSession::prefill() {
  const Stopwatch watch;
  const std::uint64_t submits = walker_->stats().submits;
  TSR_CHECK(write_pending_tokens());
  const std::uint32_t begin = position_, end = static_cast<std::uint32_t>(tokens_.size());
  while (position_ < end) {
    if (!report(progress_, "prefill", position_ - begin, end - begin))
      return Error{Code::cancelled, "cancelled during the prompt"};
    const std::uint32_t rows = std::min(decoder_.chunk, end - position_);
    TSR_CHECK(write_state(rows));
    TSR_CHECK(walker_->run(decoder_.prefill));
    if (logits_) TSR_CHECK(emit_logits(decoder_.all_logits, position_, rows));
    position_ += rows;
  }
  TSR_CHECK(walker_->run(decoder_.head));
  (void)report(progress_, "prefill", end - begin, end - begin);
  stats_.prefill_tokens += end - begin;
  stats_.prefill_seconds += watch.seconds();
  stats_.prefill_submits += walker_->stats().submits - submits;
  return {};
}

Result<void> DecoderSession::write_state(std::uint32_t rows) {
  const StepState state{.position = position_, .rows = rows};
  return walker_->write(decoder_.state, 0, std::as_bytes(std::span(&state, 1)));
}

Result<void> DecoderSession::write_pending_tokens() {
  // From the start of the penalty's window on, in case earlier tokens never reached this walker.
  return walker_->write(decoder_.tokens, 0, std::as_bytes(std::span(tokens_)));
}

Result<TokenId> DecoderSession::read_token() {
  StepState state;
  TSR_CHECK(walker_->read(decoder_.state, 0, std::as_writable_bytes(std::span(&state, 1))));
  if (state.status != kStatusOk)
    return Error{Code::numeric, "the logits at position " + std::to_string(position_ - 1) +
                                    " hold a NaN or an infinity: no token can be chosen"};
  return state.token;
}

Result<void> DecoderSession::emit_logits(ValueId value, std::uint32_t first_position, std::uint32_t rows) {
  const std::uint32_t vocab = decoder_.config.vocab;
  std::vector<float> logits(std::size_t{rows} * vocab);
  TSR_CHECK(walker_->read(value, 0, std::as_writable_bytes(std::span(logits))));
  for (std::uint32_t r = 0; r < rows; ++r)
    logits_(first_position + r, std::span(logits).subspan(std::size_t{r} * vocab, vocab));
  return {};
}

}  // namespace tessera
