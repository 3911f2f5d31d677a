/* A C99 host: one greedy token from a model on the CPU reference. embed MODEL prints its id. */
#include <stdio.h>
#include <tessera/tessera.h>

static int fail(const tessera_error* error) {
  fprintf(stderr, "%s: %s\n", tessera_status_text(error->status), error->message);
  return 1;
}

int main(int argc, char** argv) {
  tessera_context_desc context_desc = TESSERA_INIT(tessera_context_desc);
  tessera_model_desc model_desc = TESSERA_INIT(tessera_model_desc);
  tessera_session_desc session_desc = TESSERA_INIT(tessera_session_desc);
  tessera_context* context = NULL;
  tessera_model* model = NULL;
  tessera_session* session = NULL;
  tessera_error error;
  const uint32_t prompt[] = {1, 2, 3};
  uint32_t id = 0;

  if (argc != 2) return 2;
  context_desc.device = "reference";
  model_desc.path = argv[1];
  if (tessera_context_create(&context_desc, &context, &error) != TESSERA_OK) return fail(&error);
  if (tessera_model_load(context, &model_desc, &model, &error) != TESSERA_OK) return fail(&error);
  if (tessera_session_create(model, &session_desc, &session, &error) != TESSERA_OK) return fail(&error);
  if (tessera_session_append(session, prompt, 3, &error) != TESSERA_OK) return fail(&error);
  if (tessera_session_next(session, &id, &error) != TESSERA_OK) return fail(&error);
  printf("%u\n", (unsigned)id);
  tessera_session_destroy(session);
  tessera_model_destroy(model);
  tessera_context_destroy(context);
  return 0;
}
