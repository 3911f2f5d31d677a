// A conversation with a decoder-only model over any Walker: the KV cache's contents, prompts in chunks, one
// token at a time or in steps that never wait. Not thread-safe.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/log.h"
#include "graph/state.h"
#include "graph/walker.h"
#include "models/decoder.h"
#include "session/saved_state.h"
#include "text/tokenizer.h"

namespace tessera {

struct SessionStats {
  std::uint64_t prefill_tokens = 0, decode_tokens = 0;
  double prefill_seconds = 0, decode_seconds = 0;
  std::uint64_t prefill_submits = 0, decode_submits = 0;
  std::uint64_t decode_records = 0;  // command lists recorded during decode
};

struct StepLimits {
  double budget_us = 0;  // of one submission, by measured times; 0: none, and it is the rest of one pass
  std::uint32_t in_flight = 1;  // submissions that may be unfinished at once; at most kMostInFlight
};
inline constexpr std::uint32_t kMostInFlight = 8;

struct Submitted {
  std::uint64_t value = 0;  // what Walker::wait takes; 0: nothing was submitted
  double us = 0;            // predicted
  SlicePrediction next;     // of the slice that comes after it, if any
  bool loading = false;     // weights were brought instead
  bool alone = false;       // it is one slice, of unknown cost or over the budget
};

class DecoderSession {
 public:
  // The logits of one evaluated position; called in order.
  using LogitsSink = std::function<void(std::uint32_t position, std::span<const float> logits)>;

  // `walker` runs `decoder.program` or its fused form. A sink needs a decoder built with all_logits.
  DecoderSession(std::unique_ptr<Walker> walker, DecoderProgram decoder, LogitsSink logits,
                 Progress progress);

  // Of the tokens that are submitted from now on.
  Result<void> set_sampler(const SamplerParams& sampler);
  void reset();

  // Adds tokens after what is there, which next() and start() evaluate. invalid_argument names an id outside
  // the vocabulary, by how much the context is exceeded, or that tokens are being chosen; nothing is added
  // then.
  Result<void> append(std::span<const TokenId> ids);
  // Evaluates every pending token and samples one, which is then pending. numeric when the logits have no
  // order; invalid_argument when nothing is pending, the context is full, or start() is not through.
  Result<TokenId> next();

  // The same for several tokens, without waiting: start, then submit and poll in turn, and take. After an
  // error, and from stop() on, it is as if what was not taken had never been submitted.
  Result<void> start(std::uint32_t tokens);  // at least 1; fewer where the context ends
  // At most one queue submission, of slices that fit the limits: chunks of the prompt, its head, and tokens
  // ahead of what was taken. Nothing while it has to wait for what is in flight.
  Result<Submitted> submit(const StepLimits& limits);
  // Whether all that was submitted has ended; waits at most timeout_ns for it.
  Result<bool> poll(std::uint64_t timeout_ns);
  // The next token that was chosen, which is pending then; none as yet.
  Result<std::optional<TokenId>> take();
  void stop();
  bool quiet() const { return flight_count_ == 0 && ended_ == latest_; }  // all was seen to end
  Result<void> alive() const;                                             // device_lost
  bool active() const { return taken_ < wanted_; }  // start() asked for more than was taken

  // Weights that are not there yet: submit() brings this many bytes of them, and nothing else then; 0: all.
  void stream(std::uint64_t bytes) { stream_bytes_ = bytes; }
  Loading loading() const { return walker_->loading(); }
  Result<void> load() { return walker_->load(stream_bytes_); }
  // Waits for what was submitted. They are brought again as above.
  Result<void> release_weights();

  // Tokens, position, sampler and the rows of the KV cache that are in use, and `text`, which restore() gives
  // back. Both wait for what was submitted; while tokens are chosen, those that were not taken are not saved.
  // The bytes come in parts.
  Result<void> save(std::string_view text, const StateWriter::Sink& sink);
  // Replaces all that reset() forgets. After an error of the bytes themselves the session is as it was, after
  // one of the device it is reset. The context may be another, if the tokens fit.
  Result<std::string> restore(std::span<const std::byte> bytes);

  std::span<const TokenId> tokens() const { return tokens_; }  // all, the pending ones last
  std::uint32_t position() const { return position_; }         // tokens in the cache
  bool full() const { return tokens_.size() > decoder_.context; }
  const DecoderProgram& decoder() const { return decoder_; }
  const Walker& walker() const { return *walker_; }
  const SessionStats& stats() const { return stats_; }

 private:
  // A pass that is being submitted, and its next slice.
  struct Pass {
    std::uint32_t graph = 0, position = 0, rows = 0, slice = 0;
  };
  // A submission that has not been seen to end, and what is there when it has.
  struct Flight {
    std::uint64_t value = 0;
    std::uint32_t chosen = 0, position = 0;  // tokens since start(); of the prompt in the cache
    std::uint32_t decoded = 0;               // passes of `decode` that end with it
    bool prompt = false;                     // begins in the prompt
    Pass ended = {};                         // the last pass that ends with it, when `ends`
    bool ends = false;
  };

  bool submitted_all() const { return ahead_.chosen == wanted_; }
  Result<bool> idle();  // nothing runs that was ever submitted
  Result<void> prepare();
  Result<bool> tune(const StepLimits& limits);
  Result<Submitted> fill(const StepLimits& limits);
  SlicePrediction predict() const;
  void add_run(std::uint32_t slices);
  void end_pass();
  Result<Submitted> fly(Submitted out, bool measure);
  Result<void> retire(const Flight& flight);
  Result<std::optional<TokenId>> try_take();
  Result<TokenId> finish_next();
  Result<void> emit_logits(const Pass& pass);
  void charge(const Flight& flight);
  Result<void> wait_until_idle();
  Result<const SavedShape*> shape();
  using CacheRows = std::function<Result<void>(ValueId cache, std::uint64_t offset, std::uint64_t bytes)>;
  Result<void> for_cache_rows(std::uint32_t positions, const CacheRows& use) const;

  std::unique_ptr<Walker> walker_;
  DecoderProgram decoder_;
  LogitsSink logits_;
  Progress progress_;
  std::vector<TokenId> tokens_;
  std::vector<std::uint32_t> words_;  // what goes to the device's tokens
  std::uint32_t position_ = 0;
  SamplerParams sampler_;
  bool new_sampler_ = false;  // it is not on the device yet
  // Whether the device's tokens and state are those of a decode pass of the one pending token.
  bool in_step_ = false;

  std::uint32_t wanted_ = 0, taken_ = 0, done_ = 0;  // tokens since start(); done: those that can be taken
  std::uint32_t begin_ = 0, end_ = 0;                // of the prompt
  Pass pass_;
  Flight ahead_;  // the submission in the making: what is there when it has ended
  std::vector<SliceRun> runs_;
  std::array<Flight, kMostInFlight> flights_ = {};
  std::uint32_t first_flight_ = 0, flight_count_ = 0;
  std::uint64_t latest_ = 0, ended_ = 0;  // values: of the latest submission, of one that was seen to end
  std::chrono::steady_clock::time_point since_;  // when what is in flight began to count
  SessionStats stats_;
  std::optional<SavedShape> shape_;
  std::uint64_t stream_bytes_ = 0;
};

}  // namespace tessera
