// The encoder-decoder of "Attention Is All You Need" (https://arxiv.org/abs/1706.03762): a config.json, a
// safetensors file and two vocabularies become a program of two graphs. docs/translate.md names the tensors.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/model_file.h"
#include "graph/graph.h"

namespace tessera {

// Sinusoids of position p, for i < d/2. interleaved: sin(p f_i), cos(p f_i) at 2i, 2i+1, f_i = 10000^(-2i/d).
// halves: at i and d/2+i, f_i = 10000^(-i/(d/2-1)).
enum class PositionLayout : std::uint8_t { interleaved, halves };

struct TransformerConfig {
  std::uint32_t encoder_layers = 0, decoder_layers = 0;
  std::uint32_t dim = 0;      // of a position's hidden vector
  std::uint32_t ffn_dim = 0;  // of the feed-forward network
  std::uint32_t heads = 0;    // divides dim
  Activation activation = Activation::relu;
  bool pre_norm = false;  // norm(x) goes into a block, and its output is added to x; else norm(x + block(x))
  float eps = 0;          // of the LayerNorms
  PositionLayout position_layout = PositionLayout::interleaved;
  std::uint32_t position_start = 0;                  // of the first token
  bool scale_embedding = false;                      // by sqrt(dim)
  std::uint32_t bos = 0, eos = 0;                    // of the target vocabulary
  std::string source_vocabulary, target_vocabulary;  // file names beside config.json
};

// bad_model or unsupported name the file, the key and its value.
Result<TransformerConfig> read_transformer_config(const ByteSource& file);

// (rows, dim) of the positions from config.position_start on, computed in double.
std::vector<float> sinusoids(const TransformerConfig& config, std::uint32_t rows);

struct TransformerOptions {
  std::uint32_t beams = 1;               // sequences decoded at once
  std::uint32_t max_source = 256;        // tokens of a source
  std::uint32_t max_target = 256;        // tokens that a decoder takes, BOS included
  Precision precision = Precision::f32;  // of products and attention
};

// How to run it: write `source` and state {0, n}, run `encode`. Then for t = 0, 1, ...: write `lengths` (n of
// each beam, once), `target` (each beam's token t), `table` and state {t, 1}, and run `decode`.
struct TransformerProgram {
  std::shared_ptr<const Program> program;  // unfused; its value ids and graph indices hold in fuse(*program)
  std::uint32_t encode = 0;                // graph, max_rows = max_source
  std::uint32_t decode = 0;                // graph, one position of each beam
  ValueId source = kNoValue;               // input u32 (max_source)
  ValueId target = kNoValue;               // input u32 (beams)
  ValueId state = kNoValue;                // input u32 (8), StepState
  ValueId lengths = kNoValue;              // input u32 (beams): source tokens that a beam attends to
  // Input u32 (beams, max_target): the block of the self-attention caches that holds position j of beam b, of
  // beams * max_target. Beams that share a past name the same blocks: reordering beams copies nothing.
  ValueId table = kNoValue;
  ValueId logits = kNoValue;  // output (beams, target_vocab), by decode
  // One a decoder layer: (beams * max_target, heads, 1, head_dim).
  std::vector<ValueId> k_caches, v_caches;
  // One a decoder layer, output (max_source, dim), by encode: what cross-attention reads.
  std::vector<ValueId> cross_keys, cross_values;
  TransformerConfig config;
  std::uint32_t source_vocab = 0, target_vocab = 0;
  std::uint32_t beams = 0, max_source = 0, max_target = 0;
};

// `weights` is a safetensors file; the rows of its embeddings are the sizes of the vocabularies. bad_model
// names a tensor that is missing or misshapen; invalid_argument, options that are 0 or too large.
Result<TransformerProgram> build_transformer(std::shared_ptr<const ModelFile> weights,
                                             const TransformerConfig& config,
                                             const TransformerOptions& options);

}  // namespace tessera
