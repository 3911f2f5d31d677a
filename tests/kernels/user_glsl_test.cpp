// The text of a user's function as a shader takes it; tests/glsl has what compilers make of it.
#include "kernels/user_glsl.h"

#include <gmock/gmock.h>

namespace tessera {
namespace {

const std::vector<UserBuffer> kBuffers{{"few", UserBuffer::Type::f32}};
const std::string kHead = "bool mask(uint b, uint h, uint q, uint k) ";

std::string text_of(const std::string& text) {
  const auto made = user_text(kUserMask, text, kBuffers);
  return made ? *made : made.error().message;
}

TEST(UserGlsl, NamesAreItsOwn) {
  EXPECT_EQ(
      text_of("bool mask(uint b) { return few[b + few [0]].x < max(state, 1.5e-3f); }"),
      "bool user_mask(uint user_mask_b) { return user_buffer_few(user_mask_b + user_buffer_few (0)).x < "
      "max(user_mask_state, 1.5e-3f); }");
}

TEST(UserGlsl, LinesStay) {
  EXPECT_EQ(text_of("// one\n/* two\n three */ bool mask(\n)\t;"), " \n \n bool user_mask(\n) ;");
}

TEST(UserGlsl, Refusals) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "mask_glsl does not define 'bool mask("},
      {"// mask(\n", "mask_glsl does not define"},
      {"\n#define x", "mask_glsl, line 2: '#'"},
      {kHead + "{ layout", "line 1: 'layout' is not taken"},
      {kHead + "{ gl_x", "line 1: 'gl_x' is not taken"},
      {kHead + "{ a[0]", "line 1: '['"},
      {kHead + "{ few(0)", "the buffer 'few' is read as few[index]"},
      {kHead + "{\n}\n)", "line 3: ')' closes nothing"},
      {kHead + "{ (}", "line 1: '}' closes nothing"},
      {kHead + "{", "'{' is not closed"},
      {kHead + "{ } /*\n", "line 1: a comment is not closed"},
      {kHead + std::string("{ }\0", 4), "a byte of value 0"},
      {kHead + "{ \"", "is not taken"},
      {"float sin(float x) { return x; }", "'sin' is GLSL's own"},
      {std::string(33 << 10, ' '), "has 33792 bytes"},
      {kHead + std::string(100, '{'), "brackets within each other"},
      {kHead + std::string(65, 'n'), "a name of more than 64"}};
  for (const auto& [text, words] : cases) EXPECT_THAT(text_of(text), testing::HasSubstr(words)) << text;
}

TEST(UserGlsl, WhatAMaskDependsOn) {
  const auto reach = [](const std::string& text) {
    const MaskReach r = mask_reach(text_of(text));
    return std::string(r.batch ? "b" : "") + (r.head ? "h" : "");
  };
  EXPECT_EQ(reach(kHead + "{ return k <= q; } // b, h"), "");
  EXPECT_EQ(reach(kHead + "{ return k <= b; }"), "b");
  EXPECT_EQ(reach("bool mask(uint batch, uint\nhead , uint q, uint k) { return head == batch; }"), "bh");
  EXPECT_EQ(reach("bool mask(in uint one, uint, uint q, uint k) { return true; }"), "");
  EXPECT_EQ(reach("bool f(uint h) { return h == 0; }\n" + kHead + "{ return f(q); }"), "h");  // to be safe
  EXPECT_EQ(reach(kHead + ";\nbool mask(uint x, uint y, uint q, uint k) { return x == y; }"), "bh");
  EXPECT_EQ(reach("bool mask(uint b"), "bh");
}

TEST(UserGlsl, NamesOfBuffers) {
  for (const char* name : {"few", "_x", "X9"}) EXPECT_TRUE(is_user_name(name)) << name;
  for (const char* name : {"", "9", "a b", "a.b", "float", "sin", "score", "mask", "gl_x", "main"})
    EXPECT_FALSE(is_user_name(name)) << name;
}

TEST(UserGlsl, MessagesOfCompilers) {
  const UserFunctions both{"s", "m"}, one{"", "m"};
  const auto said = [](const UserFunctions& user, const char* log) { return user_error(user, log).message; };
  EXPECT_EQ(said(both, "ERROR: 0:7: warm\nERROR: 2:3: 'user_mask_x' : undeclared identifier \nERROR: 1:1: y"),
            "mask_glsl, line 3: 'x' : undeclared identifier");
  EXPECT_EQ(said(both, "1:2: error: user_buffer_few user_score"), "score_glsl, line 2: error: few score");
  EXPECT_THAT(said(both, "No function definition (body) found: \n  user_score(f1;"),
              testing::HasSubstr("score_glsl does not define 'float score("));
  EXPECT_EQ(said(one, "odd\tthings\n"), "mask_glsl: odd things");
  EXPECT_EQ(said(both, "99999999999:1: x"), "score_glsl or mask_glsl: 99999999999:1: x");
}

}  // namespace
}  // namespace tessera
