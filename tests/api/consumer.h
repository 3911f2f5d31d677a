/* What a program in C does with the library. */
#ifndef TESSERA_TESTS_API_CONSUMER_H
#define TESSERA_TESTS_API_CONSUMER_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Writes the text that `model` continues `prompt` with, at most 8 tokens, to `text`. Gives 0, or the line of
 * consumer.c that failed. */
int consume(const char* device, const char* model, const char* prompt, char* text, size_t capacity);

#ifdef __cplusplus
}
#endif
#endif
