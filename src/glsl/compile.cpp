// By glslang's C interface: its C++ one would need the same standard library on both sides.
#include <glslang/Include/glslang_c_interface.h>
#include <glslang/Public/resource_limits_c.h>

#include <memory>

#include "tessera/tessera_glsl.h"

namespace {

struct Glslang {
  Glslang() : ready(glslang_initialize_process() != 0) {}
  ~Glslang() { glslang_finalize_process(); }
  bool ready;
};

template <auto destroy>
struct Delete {
  template <typename T>
  void operator()(T* made) const {
    destroy(made);
  }
};
using Shader = std::unique_ptr<glslang_shader_t, Delete<glslang_shader_delete>>;
using Program = std::unique_ptr<glslang_program_t, Delete<glslang_program_delete>>;

glslang_input_t input_of(const char* source) {
  glslang_input_t input{};
  input.language = GLSLANG_SOURCE_GLSL;
  input.stage = GLSLANG_STAGE_COMPUTE;
  input.client = GLSLANG_CLIENT_VULKAN;
  input.client_version = GLSLANG_TARGET_VULKAN_1_2;
  input.target_language = GLSLANG_TARGET_SPV;
  input.target_language_version = GLSLANG_TARGET_SPV_1_5;
  input.code = source;
  input.default_version = 460;
  input.default_profile = GLSLANG_NO_PROFILE;
  input.messages = static_cast<glslang_messages_t>(GLSLANG_MSG_SPV_RULES_BIT | GLSLANG_MSG_VULKAN_RULES_BIT);
  input.resource = glslang_default_resource();
  return input;
}

// 0: `request.module` has it.
int compile(const tessera_glsl_request& request) {
  static const Glslang glslang;
  const auto fail = [&](const char* log) {
    request.log(request.answer, log);
    return 1;
  };
  if (!glslang.ready) return fail("glslang cannot be set up");
  const glslang_input_t input = input_of(request.source);
  const Shader shader(glslang_shader_create(&input));
  if (!shader) return fail("glslang made no shader");
  if (glslang_shader_preprocess(shader.get(), &input) == 0 || glslang_shader_parse(shader.get(), &input) == 0)
    return fail(glslang_shader_get_info_log(shader.get()));
  const Program program(glslang_program_create());
  glslang_program_add_shader(program.get(), shader.get());
  if (glslang_program_link(program.get(), input.messages) == 0)
    return fail(glslang_program_get_info_log(program.get()));
  glslang_program_SPIRV_generate(program.get(), input.stage);
  request.module(request.answer, glslang_program_SPIRV_get_ptr(program.get()),
                 glslang_program_SPIRV_get_size(program.get()) * 4);
  return 0;
}

}  // namespace

extern "C" int tessera_glsl_compile(void* /*user*/, const tessera_glsl_request* request) {
  try {
    return compile(*request);
  } catch (...) {
    request->log(request->answer, "glslang ran out of memory");
    return 1;
  }
}
