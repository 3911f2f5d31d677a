// Whole models on the reference: goldens of others, and the ways to run the same thing that must agree.
#include <gmock/gmock.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "formats/convert.h"
#include "graph/fuse.h"
#include "graph/state.h"
#include "models/decoder.h"
#include "reference/reference.h"
#include "support/models_dir.h"
#include "support/random_decoder.h"
#include "support/temp_dir.h"

namespace tessera::test {
namespace {

using nlohmann::json;
using Words = std::vector<std::uint32_t>;
using Row = std::vector<float>;

json parse(const std::string& path) {
  std::ifstream in(path);
  return json::parse(in, nullptr, false);
}

DecoderProgram build(const std::string& path, const DecoderOptions& options = {}) {
  auto source = ByteSource::open(path);
  if (!source.ok()) throw std::runtime_error(source.error().message);
  auto file = ModelFile::open(*source);
  if (!file.ok()) throw std::runtime_error(file.error().message);
  auto built = build_decoder(std::make_shared<ModelFile>(*std::move(file)), options);
  if (!built.ok()) throw std::runtime_error(built.error().message);
  return *std::move(built);
}

std::shared_ptr<const Program> fused(const DecoderProgram& model) {
  return std::make_shared<const Program>(fuse(*model.program));
}

std::unique_ptr<ReferenceWalker> walk(std::shared_ptr<const Program> program) {
  auto walker = ReferenceWalker::create(std::move(program));
  if (!walker.ok()) throw std::runtime_error(walker.error().message);
  return *std::move(walker);
}

void check(const Result<void>& done) {
  if (!done.ok()) throw std::runtime_error(done.error().message);
}

// Runs a decoder: given ids in chunks, then either given ids or what sample chooses, one by one.
class Decoder {
 public:
  Decoder(const DecoderProgram& model, Walker& walker) : model_(model), walker_(walker) {}

  // Gives the logits of the last id; `chunk` rows a pass at most.
  Row prefill(const Words& ids, std::uint32_t chunk) {
    for (std::uint32_t at = 0; at < ids.size(); at += chunk) {
      const Words part(ids.begin() + at, ids.begin() + std::min<std::ptrdiff_t>(at + chunk, std::ssize(ids)));
      put(at, part);
      set({.position = at, .rows = static_cast<std::uint32_t>(part.size())});
      check(walker_.run(model_.prefill));
    }
    check(walker_.run(model_.head));
    return logits();
  }

  // The logits after `id`, which is at `position`.
  Row step(std::uint32_t position, std::uint32_t id) {
    put(position, {id});
    set({.position = position, .rows = 1});
    check(walker_.run(model_.decode));
    return logits();
  }
  // The logits after the id that sample chose last.
  Row step() {
    check(walker_.run(model_.decode));
    return logits();
  }

  StepState state() {
    StepState out;
    check(walker_.read(model_.state, 0, std::as_writable_bytes(std::span(&out, 1))));
    return out;
  }

 private:
  void put(std::uint32_t at, const Words& ids) {
    check(walker_.write(model_.tokens, at * sizeof(std::uint32_t), std::as_bytes(std::span(ids))));
  }
  void set(const StepState& state) {
    check(walker_.write(model_.state, 0, std::as_bytes(std::span(&state, 1))));
  }
  Row logits() {
    Row out(model_.config.vocab);
    check(walker_.read(model_.logits, 0, std::as_writable_bytes(std::span(out))));
    return out;
  }
  const DecoderProgram& model_;
  Walker& walker_;
};

double distance(const Row& a, const Row& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::fabs(double{a[i]} - b[i]));
  return largest;
}

// The logits of every position of `ids`, and the tolerance for them on an f32 device.
Drive teacher_forced(const DecoderProgram& model, Words ids) {
  return [&model, ids](Walker& walker) -> Result<std::vector<float>> {
    Decoder decoder(model, walker);
    Row all;
    for (std::uint32_t at = 0; at < ids.size(); ++at) {
      const Row row = decoder.step(at, ids[at]);
      all.insert(all.end(), row.begin(), row.end());
    }
    return all;
  };
}

const std::string kQwen2 = TESSERA_SOURCE_DIR "/tests/data/qwen2_random.gguf";

TEST(Qwen2, AgreesWithTransformers) {
  const json golden = parse(TESSERA_SOURCE_DIR "/tests/data/qwen2_random_golden.json");
  const DecoderProgram model = build(kQwen2);
  const auto prompt = golden["prompt_ids"].get<Words>(), wanted = golden["greedy_ids"].get<Words>();
  for (const bool fuse_it : {false, true}) {
    const auto walker = walk(fuse_it ? fused(model) : model.program);
    Decoder decoder(model, *walker);
    std::vector<Row> rows(prompt.size() - 1);  // logits by position
    rows.push_back(decoder.prefill(prompt, model.chunk));
    Words ids{decoder.state().token};
    while (ids.size() < wanted.size()) {
      rows.push_back(decoder.step());
      ids.push_back(decoder.state().token);
    }
    EXPECT_EQ(ids, wanted);
    for (const json& at : golden["logits"]) {
      const auto position = at["position"].get<std::size_t>();
      if (position < rows.size() && !rows[position].empty()) {
        EXPECT_LT(distance(rows[position], at["values"].get<Row>()), 2e-4) << "position " << position;
      }
    }
  }
}

TEST(Decoder, ChunksAndStepsAgree) {
  DecoderOptions options;
  options.kv_type = DType::f32;
  const Words ids{311, 281, 82, 86, 263, 284, 308, 309, 287, 262, 310, 64};
  const DecoderProgram model = build(kQwen2, options);
  const auto tolerance = run_tolerance(model.program, teacher_forced(model, ids));
  ASSERT_TRUE(tolerance.ok()) << tolerance.error().message;
  EXPECT_LT(*tolerance, 0.05);

  const auto whole = walk(model.program);
  const Row once = Decoder(model, *whole).prefill(ids, model.chunk);
  for (const bool fuse_it : {false, true}) {
    const auto program = fuse_it ? fused(model) : model.program;
    for (std::uint32_t chunk : {1u, 5u, 12u}) {
      const auto walker = walk(program);
      EXPECT_LE(distance(Decoder(model, *walker).prefill(ids, chunk), once), *tolerance) << "chunk " << chunk;
    }
    const auto walker = walk(program);
    Decoder decoder(model, *walker);
    Row last;
    for (std::uint32_t at = 0; at < ids.size(); ++at) last = decoder.step(at, ids[at]);
    EXPECT_LE(distance(last, once), *tolerance);
  }
}

// Each op of the fused program, and of the unfused one, with bounds that are small beside the values.
// A model of any type gives, bit by bit, what its F32 form gives.
TEST(Decoder, QuantisedWeightsRunAsTheirValues) {
  const TempDir dir;
  DecoderOptions options;
  options.kv_type = DType::f32;
  for (const DType type : {DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0,
                           DType::q5_1, DType::q4_k, DType::q5_k, DType::q6_k}) {
    RandomDecoder random;
    random.type = type;
    random.layers = 1;
    random.dim = random.hidden = 256;
    random.vocab = 40;
    const std::string path = dir.write("model.gguf", random.bytes()), plain = dir / "f32.gguf";
    const auto converted = convert(*ModelFile::open(*ByteSource::open(path)), plain, DType::f32, {});
    ASSERT_TRUE(converted.ok()) << converted.error().message;
    std::vector<Row> logits;
    for (const std::string& file : {path, plain}) {
      const DecoderProgram model = build(file, options);
      const auto walker = walk(model.program);
      logits.push_back(Decoder(model, *walker).prefill(spread_ids(5, random.vocab), 64));
    }
    EXPECT_EQ(logits[0], logits[1]) << info(type).name;
    EXPECT_GT(distance(logits[0], Row(random.vocab)), 0.1) << info(type).name;
  }
}

TEST(Decoder, EveryOpHasAUsefulBound) {
  const DecoderProgram model = build(kQwen2);
  for (const auto& program : {model.program, fused(model)}) {
    const auto walker = walk(program);
    const Words ids{311, 281, 82};
    check(walker->write(model.tokens, 0, std::as_bytes(std::span(ids))));
    const StepState state{.position = 0, .rows = 3};
    check(walker->write(model.state, 0, std::as_bytes(std::span(&state, 1))));
    const Graph& graph = program->graphs[model.prefill];
    for (std::uint32_t op = 0; op < graph.ops.size(); ++op) {
      const auto outputs = walker->run_op(model.prefill, op, true);
      ASSERT_TRUE(outputs.ok()) << outputs.error().message;
      for (const ReferenceOutput& output : *outputs) {
        const DType type = program->values[output.value].dtype;
        double size = 0, bound = 0;
        for (std::size_t i = 0; i < output.expected.size(); ++i) {
          size = std::max(size, std::fabs(output.expected[i]));
          bound = std::max(bound, output.bound[i]);
        }
        EXPECT_LE(bound, size * (type == DType::f16 ? 2e-3 : 1e-4)) << graph.ops[op].name;
      }
    }
  }
}

TEST(TinyStories, GreedyIdsAndLogitsAreTheGoldenOnes) {
  TSR_NEED_MODELS();
  const json golden = parse(models_dir() + "/tinystories-260k/golden.json");
  const DecoderProgram model = build(models_dir() + "/tinystories-260k/tinyllm.gguf");
  auto wanted = golden["greedy_ids"].get<Words>();
  wanted.resize(std::min<std::size_t>(wanted.size(), model.context + 1));

  for (const bool fuse_it : {false, true}) {
    const auto walker = walk(fuse_it ? fused(model) : model.program);
    Decoder decoder(model, *walker);
    std::vector<Row> rows{decoder.prefill({wanted[0]}, model.chunk)};
    Words ids{wanted[0], decoder.state().token};
    const auto start = std::chrono::steady_clock::now();
    while (ids.size() < wanted.size()) {
      rows.push_back(decoder.step());
      ids.push_back(decoder.state().token);
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    RecordProperty(fuse_it ? "fused_tokens_per_second" : "tokens_per_second",
                   std::to_string(static_cast<double>(rows.size() - 1) / took.count()));
    EXPECT_EQ(ids, wanted);
    for (const auto& [position, values] : golden["logits_at_pos"].items()) {
      const auto at = static_cast<std::size_t>(std::stoul(position));
      if (at < rows.size()) {
        EXPECT_LT(distance(rows[at], values.get<Row>()), 1e-4) << "position " << at;
      }
    }
  }
}

TEST(TinyStories, TheToleranceIsSmallBesideTheLogits) {
  TSR_NEED_MODELS();
  const json golden = parse(models_dir() + "/tinystories-260k/golden.json");
  auto ids = golden["greedy_ids"].get<Words>();
  ids.resize(64);
  struct Case {
    const char* name;
    DType kv;
    Precision precision;
    double most;  // of logits up to 19
  };
  for (const Case& c : {Case{"tolerance_f32", DType::f32, Precision::f32, 0.01},
                        Case{"tolerance_f16", DType::f16, Precision::f32, 0.2},
                        Case{"tolerance_mixed", DType::f32, Precision::mixed, 1}}) {
    DecoderOptions options;
    options.kv_type = c.kv;
    options.precision = c.precision;
    const DecoderProgram model = build(models_dir() + "/tinystories-260k/tinyllm.gguf", options);
    const auto tolerance = run_tolerance(model.program, teacher_forced(model, ids));
    ASSERT_TRUE(tolerance.ok()) << tolerance.error().message;
    RecordProperty(c.name, std::to_string(*tolerance));
    EXPECT_LT(*tolerance, c.most) << c.name;
  }
}

}  // namespace
}  // namespace tessera::test
