/* Tessera: what the command-line tool needs beyond tessera.h. UNSTABLE: no ABI promise, may change in any
 * release. Same rules for calls as tessera.h. */
#ifndef TESSERA_TOOLS_H
#define TESSERA_TOOLS_H

#include "tessera.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The contents of a GGUF or safetensors file, damaged vocabularies and unknown architectures included.
 * Metadata values come as JSON text; arrays longer than `array_limit` elements (0: all) are cut and end in
 * their count. */
typedef struct tessera_inspect_sink {
  size_t size;
  void* user;
  uint32_t array_limit;
  void (*file)(void* user, const char* kind, uint32_t version, uint64_t bytes);
  void (*metadata)(void* user, const char* key, const char* json);
  void (*tensor)(void* user, const char* name, const char* type, const uint64_t* shape, uint32_t dims,
                 uint64_t offset, uint64_t bytes);
} tessera_inspect_sink;
TESSERA_API tessera_status tessera_inspect(const char* path, const tessera_inspect_sink* sink,
                                           tessera_error* error);

/* What tessera_convert tells while and after it works. */
typedef struct tessera_convert_sink {
  size_t size;
  void* user;
  tessera_progress_fn progress;
  /* Once the file is complete, each tensor in its order, with its types and bytes before and after. */
  void (*tensor)(void* user, const char* name, const char* from, const char* to, uint64_t bytes_in,
                 uint64_t bytes_out);
} tessera_convert_sink;
/* Writes the GGUF file `in_path`, of any weight types, with its matrices in another: "F32", "F16", "BF16",
 * "Q8_0", "Q4_0", "Q4_1", "Q5_0" or "Q5_1", bit-equal to what the `gguf` Python package makes of them.
 * Matrices whose rows are no multiple of the type's block become F16, vectors F32. An existing output is
 * replaced only when the new one is complete. `sink` may be NULL. */
TESSERA_API tessera_status tessera_convert(const char* in_path, const char* out_path, const char* type,
                                           const tessera_convert_sink* sink, tessera_error* error);

/* The bytes of one token as they stand in the middle of a text: part of a UTF-8 character, maybe; control
 * tokens as they are spelled. */
TESSERA_API tessera_status tessera_token_piece(const tessera_model* model, uint32_t id, tessera_bytes_fn sink,
                                               void* user, tessera_error* error);

/* One f32 tensor to a safetensors file, row by row. */
typedef struct tessera_tensor_writer tessera_tensor_writer;
TESSERA_API tessera_status tessera_tensor_writer_create(const char* path, const char* name, uint64_t columns,
                                                        tessera_tensor_writer** writer, tessera_error* error);
TESSERA_API tessera_status tessera_tensor_writer_row(tessera_tensor_writer* writer, const float* row,
                                                     tessera_error* error);
/* Completes the file (finish != 0) or leaves nothing behind. Frees the writer either way. */
TESSERA_API tessera_status tessera_tensor_writer_close(tessera_tensor_writer* writer, int finish,
                                                       tessera_error* error);

/* Every tensor of a GGUF or safetensors file with its bytes, which live during the call; types that no op
 * takes come under the file's name for them. */
TESSERA_API tessera_status tessera_read_tensors(const char* path,
                                                void (*tensor)(void* user, const tessera_tensor* tensor),
                                                void* user, tessera_error* error);
/* A safetensors file of plain types. An existing one is replaced only when the new one is complete. */
TESSERA_API tessera_status tessera_write_tensors(const char* path, const tessera_tensor* tensors,
                                                 uint32_t count, tessera_error* error);

/* The schedule of a session as text: steps with kernel, specialization, buffers, grid and barriers. */
TESSERA_API tessera_status tessera_session_print_schedule(tessera_session* session, tessera_bytes_fn sink,
                                                          void* user, tessera_error* error);

/* Attention weights: how much each row (a token's query) takes of each key (another token), head by head. */
typedef enum tessera_attention_kind {
  TESSERA_ATTENTION_DECODER = 0, /* self-attention of a decoder: a row sees itself and what is before it */
  TESSERA_ATTENTION_ENCODER = 1, /* self-attention of a translator's encoder */
  TESSERA_ATTENTION_CROSS = 2    /* of a translator's decoder over the encoder's output: an alignment */
} tessera_attention_kind;

typedef struct tessera_attention_map { /* of one head; lives during the callback */
  size_t size;
  uint32_t layer, head; /* from 0 */
  uint32_t rows, keys;
  const float* weights; /* (rows, keys): the softmax of each row; 0 where it does not see a key */
  /* The tokens that rows and keys stand for; of cross-attention, rows are what the decoder chooses there. */
  const uint32_t *row_ids, *key_ids;
  /* Their bytes, as tessera_token_piece gives them, zero-terminated; "" without a tokenizer. */
  const char *const *row_texts, *const *key_texts;
} tessera_attention_map;

typedef struct tessera_attention_desc {
  size_t size;
  tessera_attention_kind kind;
  uint32_t layer, layers; /* `layers` of them from `layer` on; 0: all that follow */
  uint32_t head, heads;   /* likewise */
  const char* target; /* of a translator: what the text is translated to; NULL: what it makes of it itself */
  tessera_precision precision;                             /* of a model, as in a session */
  void (*map)(void* user, const tessera_attention_map* m); /* layers in order, of each its heads */
  void* user;
  tessera_progress_fn progress; /* stage "attention", after those of a session's creation */
  void* progress_user;
} tessera_attention_desc;

/* The weights of `ids` by a session of the call's own, which holds no layer behind the last one that is asked
 * for. Its kernels are a session's, and one that computes the softmax again from what they leave: nothing
 * changes for the tokens. invalid_argument: no tokens, more than the model's context, layers or heads that it
 * does not have, or weights of more than 1 GiB. */
TESSERA_API tessera_status tessera_model_attention(tessera_model* model, const uint32_t* ids, size_t count,
                                                   const tessera_attention_desc* desc, tessera_error* error);
/* The same of a text and its translation; used from one thread at a time, like the translator. */
TESSERA_API tessera_status tessera_translator_attention(tessera_translator* translator, const char* text,
                                                        size_t bytes, const tessera_attention_desc* desc,
                                                        tessera_error* error);

/* What the driver makes of every default pipeline (src/kernels/default_variants.h), in its own words through
 * VK_KHR_pipeline_executable_properties and in a common vocabulary. Figures below 0 are not reported. Makes
 * nothing but instance, device, layouts and pipelines, so that drivers without a GPU behind them do. */
typedef struct tessera_shader_info {
  size_t size;
  const char* kernel;  /* module of the catalogue */
  const char* variant; /* "q8_0, 1 row"; may be "" */
  const char* failed;  /* why there is no such pipeline here: refused by the limits or by the driver; or "" */
  uint32_t subgroup_size; /* that the driver chose; 0: not known */
  double registers, spills, scratch_bytes, shared_bytes, instructions, cycles;
} tessera_shader_info;

typedef struct tessera_shader_sink {
  size_t size;
  void* user;
  const char* filter; /* part of "kernel variant", any case; NULL or "": all */
  int texts;          /* nonzero: internal representations (assembly) too */
  /* First, once. available: 0 where the device lacks the extension; nothing follows then. */
  void (*device)(void* user, const char* name, const char* driver, int available);
  void (*pipeline)(void* user, const tessera_shader_info* info);
  /* After its pipeline: the driver's own statistics as JSON numbers or booleans, and its texts. `executable`
   * counts from 0. */
  void (*statistic)(void* user, uint32_t executable, const char* name, const char* json);
  void (*text)(void* user, uint32_t executable, const char* name, const char* text);
} tessera_shader_sink;
TESSERA_API tessera_status tessera_shaders(const tessera_context_desc* desc, const tessera_shader_sink* sink,
                                           tessera_error* error);

/* How long single ops take on the context's device, each checked on sampled elements against the reference
 * first: the list of ops and shapes that docs/benchmarks.md has, named like "matmul/q8_0/4096x4096/n8". */
typedef struct tessera_bench_op {
  size_t size;
  const char* name;   /* "matmul/q8_0/4096x4096/n8" */
  const char* failed; /* why there is no time: wrong, no kernel, skipped as too slow here; or "" */
  int wrong;          /* nonzero: an element was over its bound; `failed` names it */
  double flops;       /* useful arithmetic of one run, 0 where only memory matters */
  double bytes;       /* of operands, each counted once */
  uint32_t samples;
  double median_s, min_s, max_s;
  uint64_t checked;   /* elements */
  double worst_ratio; /* error / bound */
  /* Of attention: tiles of scores that are computed, and all there are; 0: the kernel has none
   * (tessera_op_kernel) */
  double tiles, all_tiles;
} tessera_bench_op;

typedef struct tessera_bench_desc {
  size_t size;
  uint32_t samples;                            /* 0: 10; fewer, at least 3, where they take longer than 3 s */
  int (*wanted)(void* user, const char* name); /* nonzero: measure it; NULL: all */
  /* Once, first: the driver; nonzero where GPU timestamps measure, zero where the device has none and the
   * host's clock does, from submission to completion; and what the device reaches in copying (bytes read and
   * written) and in f32 multiply-adds from registers (2 operations each). */
  void (*device)(void* user, const char* driver, int gpu_clock, double copy_bytes_per_s, double flops_per_s);
  void (*op)(void* user, const tessera_bench_op* op);
  void* user;
  tessera_progress_fn progress; /* stage "ops" */
  void* progress_user;
  /* "feed_forward_products": ops that have this form take it, and say why when they cannot. Names: those of
   * tessera_bench_form and, before any '/', of tessera_form_rate. Another one is an invalid_argument. NULL or
   * "": the device's choice. */
  const char* form;
  tessera_precision precision; /* of products, feed-forward blocks and attention */
} tessera_bench_desc;
/* TESSERA_MISMATCH when an op was wrong; all others were measured. */
TESSERA_API tessera_status tessera_bench_ops(tessera_context* context, const tessera_bench_desc* desc,
                                             tessera_error* error);

/* One form of an op that can be one kernel or several: "feed_forward_fused", "feed_forward_products",
 * "mlp_fused", "mlp_products". */
typedef struct tessera_bench_form {
  size_t size;
  const char* form;
  int chosen;    /* nonzero: what the device gets when nothing is asked for */
  uint32_t rows; /* of activations: tokens */
  /* Bytes read and written: each operand once, and what one kernel leaves for the next. 0 where it failed. */
  double moved;
  const tessera_bench_op* time;
} tessera_bench_form;

typedef struct tessera_forms_desc {
  size_t size;
  uint32_t samples;                            /* as in tessera_bench_desc */
  int (*wanted)(void* user, const char* name); /* likewise */
  /* Once, first: the driver, and whether its timestamps measure (tessera_bench_desc). */
  void (*device)(void* user, const char* driver, int gpu_clock);
  void (*form)(void* user, const tessera_bench_form* form); /* those of an op follow each other */
  void* user;
  tessera_progress_fn progress; /* stage "forms" */
  void* progress_user;
  tessera_precision precision; /* of feed-forward blocks */
} tessera_forms_desc;
/* Every form of those of the ops of tessera_bench_ops that have several: each checked, then timed in turn, so
 * that what else a machine does meets them alike. TESSERA_MISMATCH when one was wrong; all others were
 * measured.
 */
TESSERA_API tessera_status tessera_bench_forms(tessera_context* context, const tessera_forms_desc* desc,
                                               tessera_error* error);

/* How fast each form of a kernel is on the context's device, so that choices between them follow what was
 * measured: a host keeps `setting` of those that have one, and gives them to later contexts of the same rates
 * key (tessera_context_desc). Each form is checked on sampled elements against the reference first. The
 * shapes are in docs/benchmarks.md. */
typedef struct tessera_form_rate {
  size_t size;
  const char* form;    /* "attention_keys", "attention_split/few_rows" */
  const char* setting; /* "attention_keys=24.13", GFLOP/s; "" without a rate */
  /* Of "attention/d64/h8kv8/512x512/causal", the same for all forms of a choice; `failed` also says what the
   * device lacks for the form. */
  const tessera_bench_op* time;
} tessera_form_rate;

typedef struct tessera_rates_desc {
  size_t size;
  uint32_t samples; /* as in tessera_bench_desc */
  /* Once, first: the driver, and whether its timestamps measure (tessera_bench_desc). */
  void (*device)(void* user, const char* driver, int gpu_clock);
  void (*rate)(void* user, const tessera_form_rate* rate);
  void* user;
  tessera_progress_fn progress; /* stage "rates" */
  void* progress_user;
} tessera_rates_desc;
/* Takes seconds. TESSERA_MISMATCH when a form was wrong; all others were measured. */
TESSERA_API tessera_status tessera_measure_rates(tessera_context* context, const tessera_rates_desc* desc,
                                                 tessera_error* error);

#ifdef __cplusplus
}
#endif
#endif
