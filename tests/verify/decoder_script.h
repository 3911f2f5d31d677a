// What a verification of a decoder runs: a prompt in chunks, its head, and decode steps with given tokens.
#pragma once

#include <vector>

#include "graph/fuse.h"
#include "graph/state.h"
#include "models/decoder.h"
#include "support/gpu_fixture.h"
#include "support/random_decoder.h"
#include "verify/verify.h"

namespace tessera::test {

template <typename T>
std::vector<std::byte> bytes_of(std::span<const T> items) {
  const auto bytes = std::as_bytes(items);
  return {bytes.begin(), bytes.end()};
}

inline std::vector<ScriptPass> decoder_script(const DecoderProgram& d, std::uint32_t prompt,
                                              std::uint32_t decodes) {
  const std::vector<std::uint32_t> ids = spread_ids(prompt + decodes, d.config.vocab);
  std::vector<ScriptPass> script;
  const auto add = [&](std::uint32_t graph, std::uint32_t position, std::uint32_t rows, ValueId compare) {
    const StepState state{.position = position, .rows = rows};
    ScriptPass pass;
    pass.writes.push_back({d.tokens, bytes_of(std::span<const std::uint32_t>(ids))});
    pass.writes.push_back({d.state, bytes_of(std::span<const StepState>(&state, 1))});
    pass.graph = graph;
    pass.compare = {compare};
    script.push_back(std::move(pass));
  };
  for (std::uint32_t at = 0; at < prompt; at += d.chunk)
    add(d.prefill, at, std::min(d.chunk, prompt - at), d.last_hidden);
  add(d.head, prompt, 0, d.logits);
  for (std::uint32_t i = 0; i < decodes; ++i) add(d.decode, prompt + i, 1, d.logits);
  SamplerParams sampler;
  sampler.temperature = 0.8f;
  sampler.top_k = 10;
  sampler.top_p = 0.9f;
  sampler.penalty = 1.1f;
  script.back().writes.push_back({d.sampler, bytes_of(std::span<const SamplerParams>(&sampler, 1))});
  return script;
}

inline VerifyDesc describe(const DecoderProgram& d) {
  VerifyDesc desc;
  desc.unfused = d.program;
  desc.fused = std::make_shared<const Program>(fuse(*d.program));
  desc.script = decoder_script(d, 27, 2);
  return desc;
}

// 27 tokens in chunks of 20, more than rows that are normalised on their load, then 2.
inline DecoderProgram small_decoder(DType type = DType::f32, const std::string& arch = "qwen2",
                                    Precision precision = Precision::f32) {
  RandomDecoder r;
  r.type = type;
  r.arch = arch;
  r.precision = precision;
  if (info(type).block_elems == 256) r.dim = r.hidden = 256;
  return r.build(32, 20);
}

inline const VerifyRow* find_row(const VerifyReport& report, std::string_view kind) {
  for (const VerifyRow& row : report.rows)
    if (row.kind == kind) return &row;
  return nullptr;
}

}  // namespace tessera::test
