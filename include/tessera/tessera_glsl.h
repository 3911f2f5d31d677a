/* tessera_glsl: glslang as the compiler of a user's functions (docs/user_functions.md). A library of its own,
 * so that tessera itself links no compiler. C99.
 *
 *   desc.compile_glsl = tessera_glsl_compile;
 */
#ifndef TESSERA_GLSL_H
#define TESSERA_GLSL_H

#include "tessera.h"

#if defined(_WIN32)
#define TESSERA_GLSL_API
#else
#define TESSERA_GLSL_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* For tessera_context_desc::compile_glsl; `user` is not used. Thread-safe: glslang is set up by the first
 * call of the process and stays. */
TESSERA_GLSL_API int tessera_glsl_compile(void* user, const tessera_glsl_request* request);

#ifdef __cplusplus
}
#endif
#endif
