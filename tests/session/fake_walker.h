// A Walker that computes nothing: it keeps the protocol of graph/state.h and takes its tokens from a script.
// Its slices may have costs, which its clock, a sum, measures exactly.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <functional>
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
    int fail_at = -1;  // the submission that gives an error

    std::uint32_t slices = 1;  // of each graph
    double tune_below_us = 0;  // budgets under which decode wants to be tuned, once
    std::function<double(const SliceRun& slice)> cost_us;
    std::vector<double> submitted_us;         // of each submission, by cost_us
    std::uint64_t ended = ~std::uint64_t{0};  // submissions up to this value have ended, others never do
    std::uint64_t longest_wait_ns = 0;
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

  FakeWalker(std::shared_ptr<Shared> shared, std::uint32_t slices) : shared_(std::move(shared)) {
    shared_->slices = slices;
    for (std::size_t graph = 0; graph < 3; ++graph) costs_[graph].reset(slices, graph == 0 ? kChunk : 1);
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
    if (value == kTokens && offset + bytes.size() <= 4 * (kContext + 1)) {
      std::memcpy(bytes.data(), reinterpret_cast<const std::byte*>(shared_->tokens.data()) + offset,
                  bytes.size());
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
    const SliceRun all{.graph = graph, .count = shared_->slices};
    TSR_CHECK(submit({&all, 1}, false));
    return {};
  }
  std::uint32_t slices(std::uint32_t) const override { return shared_->slices; }
  SlicePrediction predict(const SliceRun& run) const override {
    return costs_[run.graph].predict(run.first, run.rows, run.position + run.rows);
  }
  Result<std::uint64_t> submit(std::span<const SliceRun> runs, bool measure) override {
    if (static_cast<int>(stats_.submits) == shared_->fail_at)
      return Error{Code::device_lost, "the device is lost"};
    ++stats_.submits;
    double us = 0;
    for (const SliceRun& run : runs)
      for (std::uint32_t i = 0; i < run.count; ++i) {
        const SliceRun slice{run.graph, run.first + i, 1, run.position, run.rows};
        if (slice.first != next_slice_ && slice.first != 0)
          return Error{Code::internal, "slices out of order"};
        next_slice_ = (slice.first + 1) % shared_->slices;
        if (next_slice_ == 0) TSR_CHECK(compute(run));
        if (!shared_->cost_us) continue;
        us += shared_->cost_us(slice);
        if (measure) unread_.push_back({stats_.submits, slice, shared_->cost_us(slice)});
      }
    shared_->submitted_us.push_back(us);
    return stats_.submits;
  }
  Result<bool> wait(std::uint64_t value, std::uint64_t timeout_ns) override {
    shared_->longest_wait_ns = std::max(shared_->longest_wait_ns, timeout_ns);
    std::erase_if(unread_, [&](const Unread& u) {
      if (u.value > shared_->ended) return false;
      costs_[u.slice.graph].measured(u.slice.first, u.slice.rows, u.slice.position + u.slice.rows, u.us);
      return true;
    });
    return value <= shared_->ended;
  }
  Loading loading() const override { return {}; }
  Result<void> load(std::uint64_t) override { return {}; }
  Result<void> release_weights() override { return {}; }
  bool wants_tuning(std::uint32_t graph, double most_us) const override {
    return graph == 2 && most_us > 0 && most_us < shared_->tune_below_us;
  }
  Result<void> tune(std::uint32_t, double) override {
    shared_->log.push_back("tune");
    shared_->tune_below_us = 0;
    return {};
  }
  WalkerStats stats() const override { return stats_; }

 private:
  struct Unread {
    std::uint64_t value;
    SliceRun slice;
    double us;
  };

  Result<void> compute(const SliceRun& run) {
    if (run.graph == 0) {
      shared_->log.push_back("prefill " + std::to_string(state_.rows) + "@" +
                             std::to_string(state_.position));
      if (state_.rows > kChunk) return Error{Code::internal, "more rows than a chunk"};
      first_ = state_.position;
      state_.position += state_.rows;
      state_.rows = std::min(state_.remaining, kChunk);
      state_.remaining -= state_.rows;
      return {};
    }
    if (run.graph == 1) {
      shared_->log.push_back("head");
    } else {
      first_ = state_.position;
      shared_->log.push_back("decode " + std::to_string(shared_->tokens[state_.position]) + "@" +
                             std::to_string(state_.position));
    }
    sample();
    return {};
  }
  void sample() {
    if (state_.status != kStatusOk) return;
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
  std::uint32_t first_ = 0, next_slice_ = 0;
  std::array<SliceCosts, 3> costs_;
  std::vector<Unread> unread_;
};

struct FakeSession {
  std::shared_ptr<FakeWalker::Shared> walker = std::make_shared<FakeWalker::Shared>();
  std::vector<std::pair<std::uint32_t, float>> logits;  // position, and what the walker says it is of
  DecoderSession session;

  explicit FakeSession(std::vector<TokenId> script, Progress progress = {}, bool with_logits = false,
                       std::uint32_t slices = 1)
      : session(std::make_unique<FakeWalker>(walker, slices), FakeWalker::decoder(with_logits),
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
