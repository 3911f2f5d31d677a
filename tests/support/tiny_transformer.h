// The smallest encoder-decoder, as the texts of its files, and what is done with damaged ones.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "base/text.h"
#include "graph/fuse.h"
#include "reference/reference.h"
#include "session/seq2seq_session.h"
#include "support/open_transformer.h"
#include "support/safetensors_builder.h"

namespace tessera::test {

struct TinyTransformer {
  std::string config = R"({"model_type":"transformer","encoder_layers":1,"decoder_layers":1,"d_model":4,
"heads":2,"ffn_dim":6,"activation":"relu","norm":"pre","layer_norm_eps":1e-5,"positions":"sinusoidal",
"position_layout":"interleaved","position_start":0,"scale_embedding":true,"source_vocabulary":"s",
"target_vocabulary":"t","bos_id":1,"eos_id":2})";
  std::string source = "<unk>\na\nb\n", target = "<unk>\n<s>\n</s>\nx y\n";
  std::string header;    // of the safetensors file
  std::size_t data = 0;  // bytes after it, all 0

  TinyTransformer() {
    SafetensorsBuilder b;
    const auto add = [&](const std::string& name, const std::vector<std::uint64_t>& shape) {
      std::size_t bytes = 4;
      for (const std::uint64_t extent : shape) bytes *= extent;
      b.tensor(name, "F32", shape, bytes);
      data += bytes;
    };
    const auto linear = [&](const std::string& name, std::uint64_t n, std::uint64_t k) {
      add(name + "/weight", {n, k});
      add(name + "/bias", {n});
    };
    const auto norm = [&](const std::string& name) {
      add(name + "/layer_norm/gamma", {4});
      add(name + "/layer_norm/beta", {4});
    };
    for (const std::string stack : {"encoder", "decoder"}) {
      const bool decoder = stack == "decoder";
      const std::string layer = stack + "/layer_0";
      add(stack + "/embeddings/weight", {decoder ? 4u : 3u, 4});
      norm(layer + "/self_attention");
      linear(layer + "/self_attention/linear_0", 12, 4);
      linear(layer + "/self_attention/linear_1", 4, 4);
      if (decoder) {
        norm(layer + "/attention");
        linear(layer + "/attention/linear_0", 4, 4);
        linear(layer + "/attention/linear_1", 8, 4);
        linear(layer + "/attention/linear_2", 4, 4);
      }
      norm(layer + "/ffn");
      linear(layer + "/ffn/linear_0", 6, 4);
      linear(layer + "/ffn/linear_1", 4, 6);
      norm(stack);
    }
    linear("decoder/projection", 4, 4);
    const std::vector<std::byte> file = b.build();
    header.assign(reinterpret_cast<const char*>(file.data()) + 8, file.size() - 8 - data);
  }

  // Opens the files, translates with the reference: no crash, and a refusal of what is wrong.
  Result<void> exercise() const {
    std::vector<std::byte> weights = SafetensorsBuilder::with_header(header, data);
    std::fill(weights.end() - static_cast<std::ptrdiff_t>(data), weights.end(), std::byte{0});
    const auto memory = [](const std::string& text) {
      return ByteSource::from_memory(std::as_bytes(std::span(text)));
    };
    TSR_TRY(TransformerFiles files,
            open_transformer(ModelFolder::from_files({{"config.json", memory(config)},
                                                      {"s", memory(source)},
                                                      {"t", memory(target)},
                                                      {"w.safetensors", ByteSource::from_memory(weights)}})));
    TSR_TRY(TransformerProgram t, files.build({.beams = 2, .max_source = 4, .max_target = 3}));
    TSR_TRY(auto walker, ReferenceWalker::create(std::make_shared<const Program>(fuse(*t.program))));
    const std::uint32_t vocab = t.target_vocab;
    Seq2SeqSession session(std::move(walker), std::move(t), {});
    TSR_TRY(const std::vector<TokenId> ids, files.source.encode("a b ab"));
    TSR_TRY(const auto found, session.translate(std::span(ids).first(1), {.beams = 2}));
    for (const Hypothesis& h : found)
      for (const TokenId id : h.ids)
        if (id >= vocab) return Error{Code::internal, "an id outside the vocabulary"};
    if (found.empty() || !valid_utf8(files.target.decode(found[0].ids)))
      return Error{Code::internal, "no text"};
    return {};
  }
};

}  // namespace tessera::test
