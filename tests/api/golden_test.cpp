// Greedy ids and logits that others computed: tests/data/*_golden.json, and TESSERA_MODELS. Bounds: the
// goldens are f32 or f64 rounded to 6 digits, and the reference is within 2e-4 of them; a device may be as
// far off as verification allows it for the same model ("whole" in docs/verification.md).
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "api/api_fixture.h"
#include "support/models_dir.h"
#include "support/sweep.h"
#include "support/temp_dir.h"
#include "tessera/tessera_tools.h"

namespace tessera::test {
namespace {

using nlohmann::json;
using Row = std::vector<float>;

constexpr double kGoldenBound = 2e-4;

struct Golden {
  Ids prompt, greedy;                   // greedy without the prompt
  std::map<std::uint32_t, Row> logits;  // by position
};

json parse(const std::string& path) {
  std::ifstream in(path);
  json parsed = json::parse(in, nullptr, false);
  EXPECT_FALSE(parsed.is_discarded()) << path;
  return parsed;
}

Golden read_golden(const std::string& path) {
  const json from = parse(path);
  Golden golden{from["prompt_ids"].get<Ids>(), from["greedy_ids"].get<Ids>(), {}};
  for (const json& row : from["logits"])
    golden.logits[row["position"].get<std::uint32_t>()] = row["values"].get<Row>();
  return golden;
}

class Goldens : public OnBoth {
 protected:
  // What verification allows the logits to be off on this device.
  double tolerance(const Model& model) {
    if (!on_gpu()) return 0;
    double bound = 0;
    tessera_verify_desc desc = init<tessera_verify_desc>();
    desc.kv_type = TESSERA_KV_F32;
    desc.user = &bound;
    desc.row = [](void* user, const tessera_verify_row* row) {
      if (std::string(row->kind) == "whole") *static_cast<double*>(user) = row->worst_bound;
    };
    take(model.verify(desc));
    EXPECT_GT(bound, 0);
    return bound;
  }

  // As many of the greedy ids as the model's context has room for; the logits at the golden's positions.
  void expect_golden(const Model& model, const Golden& golden) {
    const double bound = kGoldenBound + tolerance(model);
    EXPECT_LT(bound, 0.05);  // logits are about 10 in size
    RecordProperty("bound", std::to_string(bound));
    std::map<std::uint32_t, Row> rows;
    tessera_session_desc desc = init<tessera_session_desc>();
    desc.kv_type = TESSERA_KV_F32;
    desc.logits = [](void* user, std::uint32_t position, const float* logits, std::uint32_t vocab) {
      (*static_cast<std::map<std::uint32_t, Row>*>(user))[position].assign(logits, logits + vocab);
    };
    desc.logits_user = &rows;
    Session s = take(model.session(desc));
    take(s.append(golden.prompt));
    Ids wanted = golden.greedy;
    wanted.resize(std::min<std::size_t>(wanted.size(), s.stats().context + 1 - golden.prompt.size()));
    EXPECT_EQ(next(s, static_cast<int>(wanted.size())), wanted);
    std::size_t compared = 0;
    double worst = 0;
    for (const auto& [position, values] : golden.logits) {
      if (rows.count(position) == 0) continue;
      ++compared;
      const Row& row = rows[position];
      ASSERT_EQ(row.size(), values.size());
      for (std::size_t i = 0; i < row.size(); ++i)
        worst = std::max(worst, std::fabs(double{row[i]} - double{values[i]}));
    }
    EXPECT_GE(compared, std::min<std::size_t>(4, golden.logits.size()));
    EXPECT_LE(worst, bound);
    RecordProperty("worst", std::to_string(worst));
  }

  void expect_tokenizer_cases(const Model& model, const json& golden) {
    for (const json& test : golden["tokenizer_cases"]) {
      EXPECT_EQ(take(model.tokenize(test["text"].get<std::string>(), false)), test["ids"].get<Ids>())
          << test["text"];
    }
  }
};
TSR_ON_BOTH(Goldens);

TEST_P(Goldens, Qwen2) {
  const std::string path = TESSERA_SOURCE_DIR "/tests/data/qwen2_random_golden.json";
  const Model model = load();
  EXPECT_EQ(take(model.tokenize(kPrompt)), read_golden(path).prompt);
  expect_golden(model, read_golden(path));
  expect_tokenizer_cases(model, parse(path));
}

// The bundled model and its golden come together.
TEST_P(Goldens, TheBundledModel) {
  const std::string path = TESSERA_SOURCE_DIR "/models/tessera-tiny.gguf";
  const std::string golden = TESSERA_SOURCE_DIR "/tests/data/tiny_golden.json";
  ASSERT_EQ(std::filesystem::exists(path), std::filesystem::exists(golden)) << path << " and " << golden;
  if (!std::filesystem::exists(path)) return;
  const Model model = load(path);
  expect_golden(model, read_golden(golden));
  expect_tokenizer_cases(model, parse(golden));
}

Golden tinystories() {
  const json from = parse(models_dir() + "/tinystories-260k/golden.json");
  Golden golden{from["prompt_ids"].get<Ids>(), from["greedy_ids"].get<Ids>(), {}};
  golden.greedy.erase(golden.greedy.begin(), golden.greedy.begin() + std::ssize(golden.prompt));
  for (const auto& [position, values] : from["logits_at_pos"].items())
    golden.logits[static_cast<std::uint32_t>(std::stoul(position))] = values.get<Row>();
  return golden;
}

TEST_P(Goldens, TinyStories) {
  TSR_NEED_MODELS();
  const Model model = load(models_dir() + "/tinystories-260k/tinyllm.gguf");
  ASSERT_EQ(model.info().context, 128u);
  expect_golden(model, tinystories());
}

// The same model in other types: verified on the device; on the reference, F16 still gives the golden's text.
TEST_P(Goldens, TinyStoriesConverted) {
  TSR_NEED_MODELS();
  const TempDir dir;
  const std::string from = models_dir() + "/tinystories-260k/tinyllm.gguf";
  for (const std::string type : {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"}) {
    if (on_gpu() && sweep_percent() < 100 && type != "BF16" && type != "Q5_1") continue;
    SCOPED_TRACE(type);
    const std::string path = dir / (type + ".gguf");
    tessera_error error{};
    ASSERT_EQ(tessera_convert(from.c_str(), path.c_str(), type.c_str(), nullptr, &error), TESSERA_OK)
        << error.message;
    const Model model = load(path);
    if (on_gpu()) {
      take(model.verify(init<tessera_verify_desc>()));
    } else if (type == "F16") {
      Session s = session_of(model, 128);
      take(s.append(Ids{1}));
      const Ids wanted = tinystories().greedy;
      EXPECT_EQ(next(s, 40), Ids(wanted.begin(), wanted.begin() + 40));
    }
  }
}

}  // namespace
}  // namespace tessera::test
