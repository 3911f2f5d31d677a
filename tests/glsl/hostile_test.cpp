// Texts that are no such functions: a status and a message that names the line, and nothing worse.
#include <random>

#include "user_fixture.h"

namespace tessera::test {
namespace {

constexpr const char* kHead = "float score(float s, uint b, uint h, uint q, uint k) ";

// tessera_glsl's module, after `change`.
template <typename F>
int passed_on(const tessera_glsl_request* request, F change) {
  std::vector<std::uint8_t> words;
  tessera_glsl_request own = *request;
  own.answer = &words;
  own.module = [](void* to, const void* spirv, std::size_t bytes) {
    const auto* from = static_cast<const std::uint8_t*>(spirv);
    static_cast<std::vector<std::uint8_t>*>(to)->assign(from, from + bytes);
  };
  if (tessera_glsl_compile(nullptr, &own) != 0) return 1;
  change(words);
  request->module(request->answer, words.data(), words.size());
  return 0;
}

class Hostile : public UserFunctions {
 protected:
  void SetUp() override {
    UserFunctions::SetUp();
    if (!IsSkipped()) on_ = context(false);
  }
  void refuses(const std::string& text, const std::string& words, std::vector<Tensor> more = {}) {
    std::vector<Tensor> inputs = qkv({1, 1, 1, 4, 4, 8});
    for (Tensor& t : more) inputs.push_back(std::move(t));
    expect_failure(on_.op("attention", inputs, {}, {}, {text, ""}), TESSERA_INVALID_ARGUMENT, words);
  }
  Context on_;
};

TEST_F(Hostile, Mistakes) {
  refuses(std::string(kHead) + "{\n  return s +;\n}", "score_glsl, line 2: ");
  refuses(std::string(kHead) + "{\n\n  return s * unknown;\n}",
          "score_glsl, line 3: 'unknown' : undeclared identifier");
  refuses(std::string(kHead) + "{ return vec2(s); }", "score_glsl, line 1: ");
  refuses(std::string(kHead) + "{ return helper(s); }",
          "score_glsl, line 1: 'helper' : no matching overloaded function");
  refuses("float other(float s) { return s; }", "score_glsl does not define 'float score(float s, uint b");
  refuses("float score(float s) { return s; }", "score_glsl does not define 'float score(float s, uint b");
  refuses("int score(float s, uint b, uint h, uint q, uint k) { return 1; }", "score_glsl, line 1: ");
  refuses(std::string(kHead) + ";", "score_glsl does not define");
  refuses(std::string(kHead) + "{ return s; }\n" + kHead + "{ return s; }", "score_glsl, line 2: ");
  refuses(std::string(kHead) + "{ return score(s, b, h, q, k); }", "");
  refuses(std::string(
              "float a(float x);\nfloat b_(float x) { return a(x); }\nfloat a(float x) { return b_(x); }\n") +
              kHead + "{ return a(s); }",
          "");
  refuses(" ", "score_glsl does not define");
}

TEST_F(Hostile, Escapes) {
  refuses(std::string("#extension GL_EXT_shader_16bit_storage : require\n") + kHead + "{ return s; }",
          "score_glsl, line 1: '#': directives");
  refuses(std::string("#include \"lib/attention.glsl\"\n") + kHead + "{ return s; }", "line 1: '#'");
  refuses(std::string("#define exp2(x) x\n") + kHead + "{ return s; }", "line 1: '#'");
  refuses(std::string("\n#line 1 0\n") + kHead + "{ return s; }", "line 2: '#'");
  refuses(std::string("layout(binding = 3) buffer B { float x[]; };\n") + kHead + "{ return s; }",
          "line 1: 'layout' is not taken");
  for (const char* word :
       {"shared", "buffer", "uniform", "struct", "attribute", "precision", "coherent", "discard"})
    refuses(std::string(word) + " float x;\n" + kHead + "{ return s; }",
            std::string("line 1: '") + word + "' is not taken");
  refuses(std::string("void main() { }\n") + kHead + "{ return s; }", "line 1: 'main' is not taken");
  refuses(std::string(kHead) + "{ barrier(); return s; }", "'barrier' is not taken");
  refuses(std::string(kHead) + "{ return float(gl_WorkGroupID.x); }", "'gl_WorkGroupID' is not taken");
  // The kernel's own names are not there.
  for (const char* name : {"p.scale", "kLog2E", "state[0]", "q_tile[0].x", "y4", "user_words_few", "lane()"})
    refuses(std::string(kHead) + "{ return float(" + name + "); }", "score_glsl, line 1: ");
  refuses(std::string(kHead) + "{ o = vec4(0); return s; }", "'o' : undeclared identifier");
  refuses(std::string(kHead) + "{ return s; }\n}", "line 2: '}' closes nothing");
  refuses(std::string(kHead) + "{ return s; ", "'{' is not closed");
  refuses(std::string(kHead) + "{ return s; } /* ", "a comment is not closed");
  refuses(std::string("const float t[2] = float[](1.0, 2.0);\n") + kHead + "{ return t[q]; }",
          "line 1: '[': only buffers");
  refuses(std::string(kHead) + "{ float a[100000000]; return s; }", "'[': only buffers");
  refuses(std::string(kHead) + "{ return s \\\n; }", "is not taken");
  refuses(std::string(kHead) + "{ return s; } // fine\n\x01", "a byte of value 1");
  refuses(std::string(kHead) + "{ return s\xc3\xa9; }", "a byte of value 195");
}

// Names of the kernel's are free; GLSL's own are not.
TEST_F(Hostile, Redefinitions) {
  const std::vector<Tensor> inputs = qkv({1, 1, 1, 9, 20, 8});
  const UserGlsl plain{std::string(kHead) + "{ return s; }", ""};
  const UserGlsl other{
      std::string("float adjust(float x) { return x; }\nuint lane() { return 3; }\nfloat o = 1;\n") + kHead +
          "{ o = lane(); return adjust(s); }",
      ""};
  EXPECT_EQ(run(on_, inputs, other)[0].data, run(on_, inputs, plain)[0].data);
  refuses(std::string("\nfloat exp2(float x) { return 7.0; }\n") + kHead + "{ return s; }",
          "line 2: 'exp2' is GLSL's own");
  refuses(std::string("const float max = 3;\n") + kHead + "{ return s; }", "line 1: 'max' is GLSL's own");
}

TEST_F(Hostile, Sizes) {
  refuses(std::string(kHead) + "{ return s; } //" + std::string(40000, 'x'), "score_glsl has 400");
  std::string sum = "s";
  for (int i = 0; i < 5000; ++i) sum += "+s";
  refuses(std::string(kHead) + "{ return " + sum + "; }", "line 1: a statement of more than 1000");
  refuses(std::string(kHead) + "{ return " + std::string(1000, '(') + "s" + std::string(1000, ')') + "; }",
          "brackets within each other");
  refuses(std::string(kHead) + "{ return s" + std::string(100, 'x') + "; }", "a name of more than 64");
  // Functions that double each other's calls: drivers put them all in place.
  std::string laughs = "float f0(float x) { return sin(x); }\n";
  for (int i = 1; i < 40; ++i) {
    const std::string below = "f" + std::to_string(i - 1);
    laughs +=
        "float f" + std::to_string(i) + "(float x) { return " + below + "(x) + " + below + "(x + 1.0); }\n";
  }
  refuses(laughs + kHead + "{ return f39(s); }", "instructions with its functions in place");
  std::string chain = std::string(kHead) + "{\n";
  for (int i = 0; i < 60; ++i) chain += "if (q == " + std::to_string(i) + "u) return s; else ";
  const std::vector<Tensor> inputs = qkv({1, 1, 1, 4, 4, 8});
  EXPECT_TRUE(on_.op("attention", inputs, {}, {}, {chain + "return s;\n}", ""}));
}

TEST_F(Hostile, Buffers) {
  const auto buffer = [](const char* name, const char* type = "F32") {
    return std::vector<Tensor>{tensor_of(name, type, {2}, std::vector<float>{1, 2})};
  };
  const std::string plain = std::string(kHead) + "{ return s; }";
  for (const char* name :
       {"user.1x", "user.a b", "user.main", "user.float", "user.gl_x", "user.score", "user.x;"})
    refuses(plain, "cannot read a buffer of that name", buffer(name));
  refuses(plain, "no input \"user.\"", buffer("user."));
  refuses(plain, "it must be F32, U32 or I32",
          {tensor_of("user.x", "F16", {2}, std::vector<std::uint16_t>{1, 2})});
  refuses(std::string(kHead) + "{ return s + x; }", "the buffer 'x' is read as x[index]", buffer("user.x"));
  refuses(std::string(kHead) + "{ x[0] = 1; return s; }", "score_glsl, line 1: ", buffer("user.x"));
  refuses(std::string(kHead) + "{ return s + x[0; }", "line 1: '}' closes nothing", buffer("user.x"));
  std::vector<Tensor> many;
  for (int i = 0; i < 12; ++i) many.push_back(buffer(("user.b" + std::to_string(i)).c_str())[0]);
  std::vector<Tensor> inputs = qkv({1, 1, 1, 4, 4, 8});
  for (Tensor& t : many) inputs.push_back(t);
  expect_failure(on_.op("attention", inputs, {}, {}, {plain, ""}), TESSERA_UNSUPPORTED, "leave room for 10");
  expect_failure(on_.op("attention", inputs), TESSERA_INVALID_ARGUMENT,
                 "is read by score_glsl and mask_glsl alone");
}

// Texts that are nearly right: pieces of one put into another, bytes changed, cut off.
TEST_F(Hostile, Mutations) {
  const std::string seeds[] = {
      std::string(kHead) + "{\n  return s - x[h] * abs(float(int(q) - int(k)));\n}",
      "const float cap = 30;\nfloat f(in float a, inout float b) { b += a; return cap * tanh(b / cap); }\n" +
          std::string(kHead) + "{ float t = s; return f(s, t) + t; }",
      std::string(kHead) +
          "{\n  for (uint i = 0; i < 4u; ++i) { if (i == q) continue; s += x[i]; }\n  return s; // end\n}",
      std::string(kHead) +
          "{ vec4 v = vec4(s, 1, 2.5e-3, float(q)); mat2 m = mat2(v); switch (k) { case 0u: return "
          "determinant(m); "
          "default: return dot(v.xyzw, v.wzyx); } }"};
  const std::string_view pieces[] = {
      "\0",     "#",      "/*",         "*/",    "//",        "\\\n",       "{",       "}",
      "(",      ")",      "[",          "]",     ";",         ",",          "x[",      "score",
      "float",  "uint",   "0x7fffffff", "1e999", "-1",        "%",          "<<",      "/ 0",
      "?",      ":",      "\xff",       "'",     "user_mask", "USER_TILES", "main",    "while(false)",
      "return", "struct", "e+",         "1.",    "..",        "\n",         "layout(", "@"};
  std::mt19937 random(static_cast<std::uint32_t>(testing::UnitTest::GetInstance()->random_seed()));
  const auto below = [&](std::size_t n) { return random() % n; };
  std::vector<Tensor> inputs = qkv({1, 1, 1, 4, 4, 8});
  inputs.push_back(tensor_of("user.x", "F32", {2}, std::vector<float>{1, 2}));
  for (const std::string& seed : seeds)
    EXPECT_TRUE(on_.plan("attention", inputs, {}, {}, {seed, ""})) << seed;
  for (int i = 0; i < 200; ++i) {
    std::string text = seeds[below(std::size(seeds))];
    for (std::size_t change = 0; change <= below(3); ++change) {
      const std::size_t at = below(text.size());
      const std::string_view piece = pieces[below(std::size(pieces))];
      switch (below(5)) {
        case 0: text.insert(at, piece.empty() ? std::string(1, '\0') : std::string(piece)); break;
        case 1: text.erase(at, 1 + below(4)); break;
        case 2: text[at] = static_cast<char>(1 + below(255)); break;
        case 3: text.replace(at, 1 + below(8), piece); break;
        default: text.insert(at, seeds[below(std::size(seeds))].substr(below(40), below(40))); break;
      }
      if (text.empty()) text = " ";
    }
    const auto plan = on_.plan("attention", inputs, {}, {}, {text, ""});  // not run: loops may have no end
    if (plan) continue;
    const Failure failure = plan.failure();
    EXPECT_EQ(failure.status, TESSERA_INVALID_ARGUMENT) << text << "\n" << failure.message;
    EXPECT_THAT(failure.message, testing::HasSubstr("score_glsl")) << text;
  }
}

// What numbers do that no score should have: nothing that is not finite leaves attention.
TEST_F(Hostile, OddNumbers) {
  const Sizes s{1, 2, 1, 20, 37, 16};
  std::vector<Tensor> inputs = qkv(s);
  inputs.push_back(tensor_of("user.x", "F32", {1}, std::vector<float>{0}));
  for (const bool as_gpu : {false, true}) {
    const Context on = context(as_gpu);
    for (const char* value :
         {"s / x[0]", "x[0] / x[0]", "sqrt(-1.0 - x[0])", "log(x[0])", "-1.0 / x[0]", "1e38 * 1e38", "3.4e38",
          "-3.4e38", "float(k / uint(x[0]))", "float(k % uint(x[0]))", "float(1 << (k + 40))", "s * 1e30",
          "uintBitsToFloat(0x7fc00000u)", "x[0xffffffffu]", "x[k * 4000000000u]", "pow(-1.0, s)",
          "k == 3 ? 1.0 / x[0] : s"}) {
      const auto y = run(on, inputs, {std::string(kHead) + "{ return " + value + "; }", ""});
      ASSERT_EQ(y.size(), 1u) << value;
      for (const float f : floats_of(y[0])) ASSERT_LE(std::abs(f), 1.001f) << value;
    }
    // A key whose score is NaN or -inf is not seen, one of +inf alone.
    const auto with = [&](const std::string& body) {
      const auto found = run(on, inputs, {std::string(kHead) + "{ " + body + " }", ""});
      return found.empty() ? std::vector<float>{} : floats_of(found[0]);
    };
    const std::vector<float> hidden = with("return k < 9 ? s : -1.0 / x[0];");
    EXPECT_EQ(hidden, with("return k < 9 ? s : -3.2e38;"));
    EXPECT_EQ(hidden, with("return k < 9 ? s : uintBitsToFloat(0x7fc00000u + uint(x[0]));"));
    EXPECT_EQ(with("return k == 3 ? 1.0 / x[0] : s;"), with("return k == 3 ? 0.0 : -1.0 / x[0];"));
    for (const float f : with("return x[0] / x[0];")) EXPECT_EQ(f, 0);
  }
}

// A host's own compiler that does not do its work.
TEST_F(Hostile, Compilers) {
  const auto with = [&](tessera_compile_glsl_fn compile) {
    tessera_context_desc desc = gpu();
    desc.compile_glsl = compile;
    const Context on = take(Context::create(desc));
    const auto made =
        on.op("attention", qkv({1, 1, 1, 4, 4, 8}), {}, {}, {std::string(kHead) + "{ return s; }", ""});
    return made ? Failure{TESSERA_OK, ""} : made.failure();
  };
  EXPECT_EQ(with(nullptr).status, TESSERA_UNSUPPORTED);
  EXPECT_THAT(with(nullptr).message, testing::HasSubstr("compile_glsl"));
  const auto silent = [](void*, const tessera_glsl_request*) { return 1; };
  EXPECT_THAT(with(silent).message, testing::HasSubstr("without saying why"));
  const auto empty = [](void*, const tessera_glsl_request*) { return 0; };
  EXPECT_THAT(with(empty).message, testing::HasSubstr("is no SPIR-V"));
  const auto talks = [](void*, const tessera_glsl_request* r) {
    r->log(r->answer, "a message\nof two lines");
    return 1;
  };
  EXPECT_THAT(with(talks).message, testing::HasSubstr("score_glsl: a message of two lines"));
  const auto header = [](void*, const tessera_glsl_request* r) {
    const std::uint32_t words[] = {0x07230203, 0x10500, 0, 8, 0, 0xffff0036};
    r->module(r->answer, words, sizeof(words));
    return 0;
  };
  // SPIR-V that was changed on its way, or is another kernel's.
  const auto cut = [](void*, const tessera_glsl_request* r) {
    return passed_on(r, [](auto& m) { m.resize(m.size() / 2); });
  };
  const auto odd = [](void*, const tessera_glsl_request* r) {
    return passed_on(r, [](auto& m) { m.resize(m.size() - 1); });
  };
  const auto swapped = [](void*, const tessera_glsl_request* r) {
    return passed_on(r, [](auto& m) { std::swap(m[0], m[3]); });
  };
  const auto noise = [](void*, const tessera_glsl_request* r) {
    return passed_on(r, [](auto& m) {
      for (std::size_t i = 20; i < m.size(); i += 7) m[i] ^= 0x55;
    });
  };
  const auto other = [](void*, const tessera_glsl_request* r) {
    tessera_glsl_request small = *r;
    small.source =
        "#version 460\nlayout(local_size_x = 1) in;\nlayout(binding = 0) buffer B { uint x[]; };\n"
        "void main() { x[0] = 1; }\n";
    small.bytes = std::strlen(small.source);
    return tessera_glsl_compile(nullptr, &small);
  };
  for (const tessera_compile_glsl_fn compile : {+cut, +odd, +swapped, +noise, +other}) {
    const Failure failure = with(compile);
    EXPECT_EQ(failure.status, TESSERA_INVALID_ARGUMENT) << failure.message;
    EXPECT_THAT(failure.message, testing::HasSubstr("the module of attention"));
  }
  EXPECT_EQ(with(header).status, TESSERA_INVALID_ARGUMENT);
  EXPECT_THAT(with(header).message, testing::HasSubstr("the module of attention"));
}

// A context hands the same text to its compiler once, whatever plans and runs there are.
TEST_F(Hostile, CompileOnce) {
  int calls = 0;
  tessera_context_desc desc = gpu();
  desc.compile_glsl_user = &calls;
  desc.compile_glsl = [](void* user, const tessera_glsl_request* request) {
    ++*static_cast<int*>(user);
    return tessera_glsl_compile(nullptr, request);
  };
  const Context on = take(Context::create(desc));
  const std::vector<Tensor> inputs = qkv({1, 1, 1, 20, 20, 8});
  const UserGlsl user{"", "bool mask(uint b, uint h, uint q, uint k) { return k <= q; }"};
  const auto first = run(on, inputs, user);
  const int once = calls;
  EXPECT_EQ(once, 2);  // mask_tiles and the kernel behind it
  EXPECT_EQ(run(on, inputs, user)[0].data, first[0].data);
  EXPECT_TRUE(on.plan("attention", qkv({1, 2, 1, 33, 40, 8}), {}, {}, user));
  EXPECT_EQ(calls, once);
  run(on, inputs, {"", user.mask + " "});
  EXPECT_EQ(calls, 2 * once);
}

TEST_F(Hostile, OtherOpsAndTheReference) {
  const UserGlsl user{std::string(kHead) + "{ return s; }", ""};
  const std::vector<Tensor> x{random_tensor("input", "F32", {4}, 1)};
  expect_failure(on_.op("softmax", x, {}, {}, user), TESSERA_INVALID_ARGUMENT, "softmax takes no score_glsl");
  tessera_context_desc desc = reference();
  desc.compile_glsl = tessera_glsl_compile;
  const Context on = take(Context::create(desc));
  expect_failure(on.op("attention", qkv({1, 1, 1, 4, 4, 8}), {}, {}, user), TESSERA_UNSUPPORTED,
                 "choose a device");
}

}  // namespace
}  // namespace tessera::test
