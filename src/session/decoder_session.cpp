#include "session/decoder_session.h"

#include <algorithm>
#include <utility>

#include "session/walker_io.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kWaitNs = 1'000'000'000;
// Passes that one submission may hold parts of: enough for any budget of a frame, and no memory is taken for
// them later.
constexpr std::size_t kMostRuns = 64;

}  // namespace

DecoderSession::DecoderSession(std::unique_ptr<Walker> walker, DecoderProgram decoder, LogitsSink logits,
                               Progress progress)
    : walker_(std::move(walker)),
      decoder_(std::move(decoder)),
      logits_(std::move(logits)),
      progress_(std::move(progress)) {
  words_.resize(std::size_t{decoder_.context} + 1);
  tokens_.reserve(words_.size());
  runs_.reserve(kMostRuns);
}

Result<void> DecoderSession::set_sampler(const SamplerParams& sampler) {
  sampler_ = sampler;
  new_sampler_ = true;
  TSR_TRY(const bool now, idle());
  return now ? prepare() : Result<void>();
}

void DecoderSession::reset() {
  stop();
  tokens_.clear();
  position_ = 0;
  in_step_ = false;
}

Result<void> DecoderSession::append(std::span<const TokenId> ids) {
  if (ids.empty()) return {};
  if (active()) return Error{Code::invalid_argument, "tokens cannot be appended while others are chosen"};
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
  in_step_ = false;
  return {};
}

Result<TokenId> DecoderSession::next() {
  TSR_CHECK(start(1));
  auto id = finish_next();
  if (!id.ok()) stop();
  return id;
}

Result<TokenId> DecoderSession::finish_next() {
  for (;;) {
    TSR_CHECK(submit({}));
    TSR_CHECK(poll(kWaitNs));
    TSR_TRY(const std::optional<TokenId> id, take());
    if (id) return *id;
  }
}

Result<void> DecoderSession::start(std::uint32_t tokens) {
  if (active()) return Error{Code::invalid_argument, "tokens are being chosen already"};
  if (position_ == tokens_.size())
    return Error{Code::invalid_argument, "there is no token to go on from: append a prompt first"};
  if (full())
    return Error{Code::invalid_argument,
                 "the context of " + std::to_string(decoder_.context) + " tokens is full"};
  begin_ = position_;
  end_ = static_cast<std::uint32_t>(tokens_.size());
  wanted_ = std::min(tokens, decoder_.context + 1 - end_);
  taken_ = done_ = 0;
  ahead_ = {.position = position_};
  const std::uint32_t pending = end_ - position_;
  pass_ = {pending == 1 ? decoder_.decode : decoder_.prefill, position_, std::min(pending, decoder_.chunk)};
  return {};
}

Result<void> DecoderSession::alive() const {
  TSR_CHECK(walker_->wait(0, 0));
  return {};
}

Result<bool> DecoderSession::idle() {
  if (flight_count_ > 0) return false;
  return poll(0);
}

// With nothing running: what the device has to know.
Result<void> DecoderSession::prepare() {
  if (std::exchange(new_sampler_, false))
    TSR_CHECK(walker_->write(decoder_.sampler, 0, std::as_bytes(std::span(&sampler_, 1))));
  if (in_step_ || !active()) return {};
  // From the start of the penalty's window on, in case earlier tokens never reached this walker.
  std::ranges::fill(std::ranges::copy(tokens_, words_.begin()).out, words_.end(), kNoToken);
  TSR_CHECK(write_items<std::uint32_t>(*walker_, decoder_.tokens, words_));
  const StepState state{
      .position = pass_.position, .rows = pass_.rows, .remaining = end_ - pass_.position - pass_.rows};
  TSR_CHECK(write_state(*walker_, decoder_.state, state));
  in_step_ = true;
  return {};
}

Result<Submitted> DecoderSession::submit(const StepLimits& limits) {
  if (submitted_all() || flight_count_ >= std::clamp(limits.in_flight, 1u, kMostInFlight)) return Submitted{};
  if (!loading().ready()) {
    Submitted out;
    out.loading = true;
    TSR_CHECK(load());
    return out;
  }
  if (pass_.graph == decoder_.prefill && pass_.slice == 0 &&
      !report(progress_, "prefill", position_ - begin_, end_ - begin_)) {
    stop();
    return Error{Code::cancelled, "cancelled during the prompt"};
  }
  // Logits are read before the next pass overwrites them.
  if (!in_step_ || new_sampler_ || logits_ || limits.budget_us <= 0) {
    TSR_TRY(const bool now, idle());
    if (!now) return Submitted{};
    TSR_CHECK(prepare());
  }
  auto out = fill(limits);
  if (!out.ok()) stop();
  return out;
}

// Whether the pass can begin: it may have to be recorded anew, and what was submitted must have ended then.
Result<bool> DecoderSession::tune(const StepLimits& limits) {
  if (pass_.slice != 0 || !walker_->wants_tuning(pass_.graph, limits.budget_us)) return true;
  if (flight_count_ > 0 || !runs_.empty()) return false;
  const std::uint64_t records = walker_->stats().records;
  TSR_CHECK(walker_->tune(pass_.graph, limits.budget_us));
  if (pass_.graph == decoder_.decode) stats_.decode_records += walker_->stats().records - records;
  return true;
}

Result<Submitted> DecoderSession::fill(const StepLimits& limits) {
  const auto now = Clock::now();
  const bool all = limits.budget_us <= 0;
  Submitted out;
  BudgetFit fit(limits.budget_us);
  runs_.clear();
  ahead_.prompt = pass_.graph != decoder_.decode;
  ahead_.decoded = 0;
  ahead_.ends = false;
  while (!submitted_all() && runs_.size() < kMostRuns) {
    TSR_TRY(const bool ready, tune(limits));
    if (!ready) break;
    std::uint32_t count = walker_->slices(pass_.graph) - pass_.slice;
    if (!all) {
      count = 1;
      const SlicePrediction slice = predict();
      // It can only be measured when no other run of it is under way.
      const bool again = ahead_.ends || flight_count_ > 0;
      if (again && (!slice.known || slice.due)) break;
      const BudgetFit::Verdict verdict = fit.offer(slice);
      if (verdict == BudgetFit::Verdict::full) break;
      out.alone = verdict == BudgetFit::Verdict::alone;
    }
    add_run(count);
    if (all || out.alone || (logits_ && pass_.slice == 0)) break;
  }
  out.us = fit.sum_us();
  if (!all && !submitted_all()) out.next = predict();
  if (flight_count_ == 0) since_ = now;
  return runs_.empty() ? out : fly(out, !all);
}

SlicePrediction DecoderSession::predict() const {
  return walker_->predict({pass_.graph, pass_.slice, 1, pass_.position, pass_.rows});
}

void DecoderSession::add_run(std::uint32_t slices) {
  if (pass_.slice == 0 || runs_.empty())
    runs_.push_back({pass_.graph, pass_.slice, 0, pass_.position, pass_.rows});
  runs_.back().count += slices;
  pass_.slice += slices;
  if (pass_.slice == walker_->slices(pass_.graph)) end_pass();
}

void DecoderSession::end_pass() {
  ahead_.ended = pass_;
  ahead_.ends = true;
  const std::uint32_t position = pass_.position + pass_.rows;
  if (pass_.graph == decoder_.prefill) {
    ahead_.position = position;
    const std::uint32_t rows = std::min(decoder_.chunk, end_ - position);
    pass_ = {rows > 0 ? decoder_.prefill : decoder_.head, position, rows};
    return;
  }
  ++ahead_.chosen;
  ahead_.decoded += pass_.graph == decoder_.decode;
  pass_ = {decoder_.decode, position, 1};
}

Result<Submitted> DecoderSession::fly(Submitted out, bool measure) {
  TSR_TRY(out.value, walker_->submit(runs_, measure));
  latest_ = ahead_.value = out.value;
  flights_[(first_flight_ + flight_count_++) % kMostInFlight] = ahead_;
  ++(ahead_.prompt ? stats_.prefill_submits : stats_.decode_submits);
  return out;
}

Result<bool> DecoderSession::poll(std::uint64_t timeout_ns) {
  bool all = false;  // at once, or each by itself
  if (flight_count_ > 0 && timeout_ns > 0) {
    TSR_TRY(all, walker_->wait(latest_, timeout_ns));
  }
  while (flight_count_ > 0) {
    const Flight flight = flights_[first_flight_];
    if (!all) {
      TSR_TRY(const bool ended, walker_->wait(flight.value, 0));
      if (!ended) return false;
    }
    first_flight_ = (first_flight_ + 1) % kMostInFlight;
    --flight_count_;
    ended_ = flight.value;
    TSR_CHECK(retire(flight));
  }
  if (ended_ != latest_) {  // what stop() has dropped
    TSR_TRY(const bool ended, walker_->wait(latest_, timeout_ns));
    if (!ended) return false;
    ended_ = latest_;
  }
  return true;
}

Result<void> DecoderSession::retire(const Flight& flight) {
  charge(flight);
  done_ = flight.chosen;
  if (flight.position > position_) {
    stats_.prefill_tokens += flight.position - position_;
    position_ = flight.position;
  }
  stats_.decode_tokens += flight.decoded;
  return logits_ && flight.ends ? emit_logits(flight.ended) : Result<void>();
}

void DecoderSession::charge(const Flight& flight) {
  const auto now = Clock::now();
  (flight.prompt ? stats_.prefill_seconds : stats_.decode_seconds) +=
      std::chrono::duration<double>(now - since_).count();
  since_ = now;
}

Result<std::optional<TokenId>> DecoderSession::take() {
  auto id = try_take();
  if (!id.ok()) stop();
  return id;
}

Result<std::optional<TokenId>> DecoderSession::try_take() {
  if (taken_ == done_) return std::optional<TokenId>();
  const bool prompt = position_ == end_ && taken_ == 0;
  TokenId id = 0;
  TSR_CHECK(walker_->read(decoder_.tokens, tokens_.size() * 4, std::as_writable_bytes(std::span(&id, 1))));
  position_ = static_cast<std::uint32_t>(tokens_.size());
  if (id == kNoToken)
    return Error{Code::numeric, "the logits at position " + std::to_string(position_ - 1) +
                                    " hold a NaN or an infinity: no token can be chosen"};
  if (prompt) (void)report(progress_, "prefill", end_ - begin_, end_ - begin_);
  tokens_.push_back(id);
  ++taken_;
  return std::optional(id);
}

void DecoderSession::stop() {
  if (!active()) return;
  // What ran ahead of the tokens that were taken changed the device's state, or will.
  in_step_ = in_step_ && taken_ > 0 && ahead_.chosen == taken_ && pass_.slice == 0;
  wanted_ = taken_ = done_ = 0;
  ahead_ = {};
  flight_count_ = 0;
}

Result<void> DecoderSession::emit_logits(const Pass& pass) {
  if (pass.graph == decoder_.head) return {};
  const bool prompt = pass.graph == decoder_.prefill;
  const std::uint32_t vocab = decoder_.config.vocab;
  std::vector<float> logits(std::size_t{pass.rows} * vocab);
  TSR_CHECK(walker_->read(prompt ? decoder_.all_logits : decoder_.logits, 0,
                          std::as_writable_bytes(std::span(logits))));
  for (std::uint32_t r = 0; r < pass.rows; ++r)
    logits_(pass.position + r, std::span(logits).subspan(std::size_t{r} * vocab, vocab));
  return {};
}

}  // namespace tessera
