// Decoder-only language models (Llama, Mistral, Qwen2): a GGUF file becomes a program of three graphs.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/vocab.h"
#include "formats/model_file.h"
#include "graph/graph.h"
#include "models/rope.h"

namespace tessera {

// A model's dimensions, from the file's metadata and checked against it.
struct DecoderConfig {
  std::string architecture;  // "llama", "mistral", "qwen2"
  std::string name;          // general.name; may be empty
  std::uint32_t layers = 0;
  std::uint32_t dim = 0;     // of a position's hidden vector
  std::uint32_t hidden = 0;  // of the feed-forward network
  std::uint32_t heads = 0;
  std::uint32_t kv_heads = 0;  // divides heads
  std::uint32_t head_dim = 0;
  std::uint32_t vocab = 0;    // rows of token_embd.weight
  std::uint32_t context = 0;  // positions the model was made for
  std::uint32_t window = 0;   // attention sees this many last keys; 0: all
  float eps = 0;              // of the RMSNorms
  float attention_scale = 0;
  RopeConfig rope;
  bool rope_adjacent = false;  // pairs (2i, 2i+1); else (i, i + dims/2)
  bool tied_output = false;    // logits use token_embd.weight
};

// bad_model names the key and its value, or the tensor; unsupported says what is supported.
Result<DecoderConfig> read_decoder_config(const ModelFile& file);

// tokenizer.ggml.* with the defaults of each tokenizer model; bad_model names the key. Ids out of range are
// errors, except the marker 2^32-1, which is none. Whether the parts make a tokenizer is for text/ to say.
Result<VocabSpec> read_vocab(const ModelFile& file);

struct DecoderOptions {
  std::uint32_t context = 0;             // positions of the KV cache; 0: min(the model's, 4096)
  std::uint32_t chunk = 64;              // most rows of a prefill pass
  std::optional<DType> kv_type;          // f32 or f16; by default f32 when all matrices are F32, else f16
  Precision precision = Precision::f32;  // of products and attention
  bool all_logits = false;               // prefill gives the logits of every row too
};

// How to run it: write tokens, then for each chunk set StepState.rows and run `prefill`; run `head` to sample
// the first new token, then `decode` once a token (graph/state.h has the protocol).
struct DecoderProgram {
  std::shared_ptr<const Program> program;   // unfused; its value ids and graph indices hold in fuse(*program)
  std::uint32_t prefill = 0;                // graph, max_rows = chunk
  std::uint32_t head = 0;                   // graph, logits and sample from the last row of prefill
  std::uint32_t decode = 0;                 // graph, one row
  ValueId tokens = kNoValue;                // input u32 (context+1)
  ValueId state = kNoValue;                 // input u32 (8), StepState
  ValueId sampler = kNoValue;               // input u32 (8), SamplerParams
  ValueId last_hidden = kNoValue;           // output (1, dim), before the final norm
  ValueId logits = kNoValue;                // output (1, vocab), by head and decode
  ValueId all_logits = kNoValue;            // output (chunk, vocab) by prefill, when asked for
  std::vector<ValueId> k_caches, v_caches;  // one a layer, (kv_heads, context, head_dim)
  DecoderConfig config;
  std::uint32_t context = 0;
  std::uint32_t chunk = 0;
  DType kv_type = DType::f32;
};

// Errors of read_decoder_config, and: bad_model names a tensor that is missing or misshapen; invalid_argument
// for options that do not fit the model. Weights are not read here, except small vectors.
Result<DecoderProgram> build_decoder(std::shared_ptr<const ModelFile> file, const DecoderOptions& options);

}  // namespace tessera
