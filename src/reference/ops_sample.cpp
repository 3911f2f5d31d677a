// sample: the wrapper that reads and writes values; choice.cpp has the choosing.
#include <algorithm>

#include "reference/ops.h"

namespace tessera {

Result<Outputs> run_sample(const OpCall& call) {
  if (call.state.status != kStatusOk) return Outputs{};
  const ValueId tokens = call.in(1);
  const std::uint64_t end = std::uint64_t{call.state.position} + call.state.rows;
  if (end >= call.value(tokens).elems())
    return call.error(Code::invalid_argument, "no room for a token at position " + std::to_string(end) +
                                                  " of " + std::to_string(call.value(tokens).elems()));
  const SamplerParams params = call.tensors.sampler(call.in(3));
  const std::uint64_t first = end - std::min<std::uint64_t>(end, params.penalty_last);
  std::vector<std::uint32_t> recent;
  for (std::uint64_t i = first; i < end; ++i) recent.push_back(call.tensors.word(tokens, i));
  const std::vector<float> logits = call.tensors.floats(call.in(0), 0, call.value(call.in(0)).last_dim());
  const Choice choice = choose_token(logits, recent, static_cast<std::uint32_t>(end), params, call.bounds);

  const auto word = [&](ReferenceOutput& out, std::uint64_t element, double expected) {
    out.elements.push_back(element);
    put(call, out, expected, 0);
  };
  ReferenceOutput written{.value = call.out(0)}, state{.value = call.out(1)};
  if (choice.status != kStatusOk) {
    word(state, 2, choice.status);
    return Outputs{std::move(state)};
  }
  word(written, end, choice.id);
  word(state, 0, static_cast<double>(end));
  word(state, 1, 1);
  word(state, 2, kStatusOk);
  word(state, 3, choice.id);
  written.id_entry = 0;
  state.id_entry = 3;
  written.acceptable = state.acceptable = choice.acceptable;
  return Outputs{std::move(written), std::move(state)};
}

}  // namespace tessera
