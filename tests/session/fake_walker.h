// A Walker that computes nothing: it keeps the protocol of graph/state.h and takes its tokens from a script.
#pragma once

#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "graph/state.h"
#include "graph/walker.h"
#include "session/decoder_session.h"

namespace tessera::test {

class FakeWalker final : public Walker {
 public:
  static constexpr std::uint32_t kContext = 12, kChunk = 4, kVocab = 300;
  // Value ids.
  static constexpr ValueId kTokens = 0, kState = 1, kSampler = 2, kLogits = 3, kAllLogits = 4;
  static constexpr TokenId kNaN = 1'000'000;  // in the script: the logits have no order

  struct Shared {  // outlives the session
    std::deque<TokenId> script;
    std::vector<std::string> log;       // "prefill 3@0", "head", "decode 5@7": rows or token, position
    std::vector<std::uint32_t> tokens;  // as the device would see them
    SamplerParams sampler;
    int fail_at = -1;  // the run that gives an error
  };

  static DecoderProgram decoder(bool all_logits = false) {
    DecoderProgram d;
    d.prefill = 0;
    d.head = 1;
    d.decode = 2;
    d.tokens = kTokens;
    d.state = kState;
    d.sampler = kSampler;
    d.logits = kLogits;
    if (all_logits) d.all_logits = kAllLogits;
    d.config.vocab = kVocab;
    d.context = kContext;
    d.chunk = kChunk;
    return d;
  }

  explicit FakeWalker(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {
    shared_->tokens.assign(kContext + 1, 0);
  }
  const Program& program() const override { return program_; }

  Result<void> write(ValueId value, std::uint64_t offset, std::span<const std::byte> bytes) override {
    if (value == kTokens) return copy_in(shared_->tokens.data(), 4 * (kContext + 1), offset, bytes);
    if (value == kState) return copy_in(&state_, sizeof state_, offset, bytes);
    if (value == kSampler) return copy_in(&shared_->sampler, sizeof(SamplerParams), offset, bytes);
    return Error{Code::internal, "not for writing"};
  }
  Result<void> read(ValueId value, std::uint64_t offset, std::span<std::byte> bytes) override {
    if (value == kState && offset == 0 && bytes.size() == sizeof state_) {
      std::memcpy(bytes.data(), &state_, sizeof state_);
      return {};
    }
    if (value != kLogits && value != kAllLogits) return Error{Code::internal, "not for reading"};
    // The first logit of each row says which position it is of.
    std::vector<float> logits(bytes.size() / 4, 0.0f);
    for (std::size_t row = 0; row * kVocab < logits.size(); ++row)
      logits[row * kVocab] = static_cast<float>(first_ + row);
    std::memcpy(bytes.data(), logits.data(), bytes.size());
    return {};
  }
  Result<void> run(std::uint32_t graph) override {
    if (static_cast<int>(stats_.submits) == shared_->fail_at)
      return Error{Code::device_lost, "the device is lost"};
    ++stats_.submits;
    if (graph == 0) {
      shared_->log.push_back("prefill " + std::to_string(state_.rows) + "@" +
                             std::to_string(state_.position));
      if (state_.rows > kChunk) return Error{Code::internal, "more rows than a chunk"};
      first_ = state_.position;
      state_.position += state_.rows;
      state_.rows = 0;
      return {};
    }
    if (graph == 1) {
      shared_->log.push_back("head");
    } else {
      first_ = state_.position;
      shared_->log.push_back("decode " + std::to_string(shared_->tokens[state_.position]) + "@" +
                             std::to_string(state_.position));
    }
    sample();
    return {};
  }
  WalkerStats stats() const override { return stats_; }

 private:
  void sample() {
    TokenId id = 7;
    if (!shared_->script.empty()) {
      id = shared_->script.front();
      shared_->script.pop_front();
    }
    if (id == kNaN) {
      state_.status = kStatusNaN;
      return;
    }
    state_.position += state_.rows;
    shared_->tokens[state_.position] = state_.token = id;
    state_.rows = 1;
  }
  static Result<void> copy_in(void* to, std::size_t size, std::uint64_t offset,
                              std::span<const std::byte> bytes) {
    if (offset + bytes.size() > size) return Error{Code::internal, "past the end"};
    std::memcpy(static_cast<std::byte*>(to) + offset, bytes.data(), bytes.size());
    return {};
  }

  std::shared_ptr<Shared> shared_;
  Program program_;
  StepState state_;
  WalkerStats stats_;
  std::uint32_t first_ = 0;
};

struct FakeSession {
  std::shared_ptr<FakeWalker::Shared> walker = std::make_shared<FakeWalker::Shared>();
  std::vector<std::pair<std::uint32_t, float>> logits;  // position, and what the walker says it is of
  DecoderSession session;

  explicit FakeSession(std::vector<TokenId> script, Progress progress = {}, bool with_logits = false)
      : session(std::make_unique<FakeWalker>(walker), FakeWalker::decoder(with_logits),
                with_logits
                    ? DecoderSession::LogitsSink([this](std::uint32_t position, std::span<const float> row) {
                        logits.emplace_back(position, row[0]);
                      })
                    : DecoderSession::LogitsSink(),
                std::move(progress)) {
    walker->script.assign(script.begin(), script.end());
  }
};

}  // namespace tessera::test
