// Drives a decoder's graphs over any walker, as a session does.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "graph/state.h"
#include "graph/walker.h"
#include "models/decoder.h"

namespace tessera::test {

class DecoderRunner {
 public:
  DecoderRunner(const DecoderProgram& model, Walker& walker) : model_(model), walker_(walker) {}

  // Evaluates `ids` from position 0 on in passes of at most `chunk` rows; the logits of the last one.
  Result<std::vector<float>> prefill(std::span<const std::uint32_t> ids, std::uint32_t chunk) {
    TSR_CHECK(walker_.write(model_.tokens, 0, std::as_bytes(ids)));
    for (std::uint32_t at = 0; at < ids.size(); at += chunk) {
      const auto rows = std::min<std::uint32_t>(chunk, static_cast<std::uint32_t>(ids.size()) - at);
      TSR_CHECK(set({.position = at, .rows = rows}));
      TSR_CHECK(walker_.run(model_.prefill));
    }
    TSR_CHECK(walker_.run(model_.head));
    return logits();
  }
  // The logits after `id` at `position`.
  Result<std::vector<float>> step(std::uint32_t position, std::uint32_t id) {
    TSR_CHECK(walker_.write(model_.tokens, position * 4, std::as_bytes(std::span(&id, 1))));
    TSR_CHECK(set({.position = position, .rows = 1}));
    return step();
  }
  // The logits after the id that was sampled last.
  Result<std::vector<float>> step() {
    TSR_CHECK(walker_.run(model_.decode));
    return logits();
  }
  Result<StepState> state() {
    StepState out;
    TSR_CHECK(walker_.read(model_.state, 0, std::as_writable_bytes(std::span(&out, 1))));
    return out;
  }

 private:
  Result<void> set(const StepState& state) {
    return walker_.write(model_.state, 0, std::as_bytes(std::span(&state, 1)));
  }
  Result<std::vector<float>> logits() {
    std::vector<float> out(model_.config.vocab);
    TSR_CHECK(walker_.read(model_.logits, 0, std::as_writable_bytes(std::span(out))));
    return out;
  }
  const DecoderProgram& model_;
  Walker& walker_;
};

inline double distance(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return INFINITY;
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::fabs(double{a[i]} - double{b[i]});
    if (!(d <= largest)) largest = std::isnan(d) ? INFINITY : d;
  }
  return largest;
}

}  // namespace tessera::test
