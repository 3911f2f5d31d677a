/* A host of tessera_glsl: a shader becomes SPIR-V, a text that is none gives a message. */
#include <stdio.h>
#include <string.h>
#include <tessera/tessera_glsl.h>

struct answer {
  unsigned magic;
  int said;
};
static void module(void* to, const void* spirv, size_t bytes) {
  if (bytes >= 4) memcpy(&((struct answer*)to)->magic, spirv, 4);
}
static void log_text(void* to, const char* text) { ((struct answer*)to)->said = text[0] != '\0'; }

static int compile(const char* source, struct answer* answer) {
  tessera_glsl_request request = TESSERA_INIT(tessera_glsl_request);
  request.source = source;
  request.bytes = strlen(source);
  request.answer = answer;
  request.module = module;
  request.log = log_text;
  return tessera_glsl_compile(NULL, &request);
}

int main(void) {
  struct answer good = {0, 0}, bad = {0, 0};
  const int failed = compile("#version 460\nlayout(local_size_x = 1) in;\nvoid main() {}\n", &good);
  const int refused = compile("#version 460\nvoid main() { x }\n", &bad);
  if (failed || good.magic != 0x07230203u || !refused || !bad.said) return 1;
  puts("compiles");
  return 0;
}
