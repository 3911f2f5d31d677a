// A conversation with a decoder-only model over any Walker: the KV cache's contents, prompts in chunks, one
// token at a time. Not thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/log.h"
#include "graph/state.h"
#include "graph/walker.h"
#include "models/decoder.h"
#include "text/tokenizer.h"

namespace tessera {

struct SessionStats {
  std::uint64_t prefill_tokens = 0, decode_tokens = 0;
  double prefill_seconds = 0, decode_seconds = 0;
  std::uint64_t prefill_submits = 0, decode_submits = 0;
  std::uint64_t decode_records = 0;  // command lists recorded during decode
};

class DecoderSession {
 public:
  // The logits of one evaluated position; called in order.
  using LogitsSink = std::function<void(std::uint32_t position, std::span<const float> logits)>;

  // `walker` runs `decoder.program` or its fused form. A sink needs a decoder built with all_logits.
  DecoderSession(std::unique_ptr<Walker> walker, DecoderProgram decoder, LogitsSink logits,
                 Progress progress);

  Result<void> set_sampler(const SamplerParams& sampler);
  void reset();

  // Adds tokens after what is there; next() evaluates them. invalid_argument names an id outside the
  // vocabulary or by how much the context is exceeded; nothing is added then.
  Result<void> append(std::span<const TokenId> ids);
  // Evaluates every pending token and samples one, which is then pending. numeric when the logits have no
  // order; invalid_argument when nothing is pending or the context is full.
  Result<TokenId> next();

  std::span<const TokenId> tokens() const { return tokens_; }  // all, the pending ones last
  std::uint32_t position() const { return position_; }         // tokens in the cache
  bool full() const { return tokens_.size() > decoder_.context; }
  const DecoderProgram& decoder() const { return decoder_; }
  const Walker& walker() const { return *walker_; }
  const SessionStats& stats() const { return stats_; }

 private:
  Result<void> prefill();
  Result<void> decode(bool in_step);  // in_step: the walker sampled the pending token and has it
  Result<void> write_state(std::uint32_t rows);
  Result<void> write_pending_tokens();
  Result<TokenId> read_token();
  Result<void> emit_logits(ValueId value, std::uint32_t first_position, std::uint32_t rows);

  std::unique_ptr<Walker> walker_;
  DecoderProgram decoder_;
  LogitsSink logits_;
  Progress progress_;
  std::vector<TokenId> tokens_;
  std::uint32_t position_ = 0;
  bool sampled_ = false;  // the one pending token was sampled there: the walker's state already says so
  SessionStats stats_;
};

}  // namespace tessera
