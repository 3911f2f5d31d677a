#include "consumer.h"

#include <string.h>

#include "tessera/tessera.h"
#include "tessera/tessera_tools.h"

#define CHECK(condition)               \
  do {                                 \
    if (!(condition)) return __LINE__; \
  } while (0)

struct text {
  char* bytes;
  size_t count, capacity;
};

static int on_text(void* user, const char* text, size_t bytes) {
  struct text* to = user;
  if (to->count + bytes >= to->capacity) return 1;
  memcpy(to->bytes + to->count, text, bytes);
  to->count += bytes;
  to->bytes[to->count] = '\0';
  return 0;
}

/* A frame's share at a time. */
static int step(tessera_session* session, const tessera_generate_desc* desc) {
  tessera_step_desc frame = TESSERA_INIT(tessera_step_desc);
  tessera_step_result result = TESSERA_INIT(tessera_step_result);
  tessera_error error;

  CHECK(tessera_session_begin(session, desc, &error) == TESSERA_OK);
  frame.budget_us = 2000;
  do {
    CHECK(tessera_session_step(session, &frame, &result, &error) == TESSERA_OK);
    if (result.state == TESSERA_STEP_WAITING)
      CHECK(tessera_session_wait(session, 1000000000, &result, &error) == TESSERA_OK);
  } while (result.state != TESSERA_STEP_DONE);
  CHECK(result.stop == TESSERA_STOP_LENGTH && result.tokens == desc->max_tokens);
  return 0;
}

static int generate(tessera_model* model, const char* prompt, struct text* text) {
  tessera_session_desc session_desc = TESSERA_INIT(tessera_session_desc);
  tessera_generate_desc desc = TESSERA_INIT(tessera_generate_desc);
  tessera_session_stats stats = TESSERA_INIT(tessera_session_stats);
  tessera_session* session = NULL;
  tessera_stop stop = TESSERA_STOP_CALLBACK;
  tessera_error error;
  uint32_t ids[64];
  size_t count = 0;
  int line;

  CHECK(tessera_tokenize(model, prompt, strlen(prompt), 1, 0, ids, 64, &count, &error) == TESSERA_OK);
  CHECK(count > 0 && count <= 64);
  session_desc.context = 64;
  CHECK(tessera_session_create(model, &session_desc, &session, &error) == TESSERA_OK);
  CHECK(tessera_session_append(session, ids, count, &error) == TESSERA_OK);
  desc.max_tokens = 4;
  desc.ignore_eos = 1;
  desc.on_text = on_text;
  desc.user = text;
  CHECK(tessera_generate(session, &desc, &stop, &error) == TESSERA_OK);
  CHECK(error.status == TESSERA_OK && error.message[0] == '\0');
  CHECK(stop == TESSERA_STOP_LENGTH);
  line = step(session, &desc);
  if (line != 0) return line;
  CHECK(tessera_session_get_stats(session, &stats, &error) == TESSERA_OK);
  CHECK(stats.context == 64 && stats.position == count + 7);
  tessera_session_destroy(session);
  return 0;
}

int consume(const char* device, const char* path, const char* prompt, char* text, size_t capacity) {
  tessera_context_desc context_desc = TESSERA_INIT(tessera_context_desc);
  tessera_model_desc model_desc = TESSERA_INIT(tessera_model_desc);
  struct text to;
  tessera_context* context = NULL;
  tessera_model* model = NULL;
  tessera_error error;
  int line;

  to.bytes = text;
  to.count = 0;
  to.capacity = capacity;
  CHECK(tessera_version() >> 16 == TESSERA_VERSION_MAJOR);
  context_desc.device = device;
  CHECK(tessera_context_create(&context_desc, &context, &error) == TESSERA_OK);
  CHECK(strcmp(tessera_context_device_name(context), "") != 0);
  model_desc.path = "/no/such/file.gguf";
  CHECK(tessera_model_load(context, &model_desc, &model, &error) == TESSERA_IO);
  CHECK(model == NULL && error.status == TESSERA_IO && strstr(error.message, "/no/such/file.gguf") != NULL);
  model_desc.path = path;
  CHECK(tessera_model_load(context, &model_desc, &model, &error) == TESSERA_OK);
  line = generate(model, prompt, &to);
  tessera_model_destroy(model);
  tessera_context_destroy(context);
  return line;
}
