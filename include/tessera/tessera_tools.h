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

/* Writes the GGUF file `in_path` with its matrices in another type ("F32", "F16", "BF16", "Q8_0", "Q4_0").
 * `fallback` is called with each tensor whose rows are no multiple of the type's block and that is F16
 * instead. An existing output is replaced only when the new one is complete. */
TESSERA_API tessera_status tessera_convert(const char* in_path, const char* out_path, const char* type,
                                           void (*fallback)(void* user, const char* tensor),
                                           tessera_progress_fn progress, void* user, tessera_error* error);

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

#ifdef __cplusplus
}
#endif
#endif
