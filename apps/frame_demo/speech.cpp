#include "speech.h"

#include <algorithm>

namespace demo {
namespace {

constexpr std::uint32_t kMostTokens = 60;
constexpr std::size_t kEnough = 90;  // bytes, after which the end of a sentence ends the line

bool ends_sentence(const std::string& words) {
  return words.ends_with('.') || words.ends_with('!') || words.ends_with('?') || words.ends_with(".\"") ||
         words.ends_with("!\"") || words.ends_with("?\"");
}

}  // namespace

tessera::Expected<Speech> Speech::create(const tessera::Model& model) {
  auto session = model.session();
  if (!session) return session.failure();
  return Speech(model, *std::move(session));
}

tessera::Expected<tessera::Done> Speech::begin(const Line& line, std::uint64_t seed) {
  auto sampler = tessera::init<tessera_sampler>();
  sampler.temperature = 0.75f;
  sampler.top_p = 0.92f;
  sampler.penalty = 1.1f;
  sampler.seed = seed;
  auto ids = model_->tokenize(line.prompt);
  if (!ids) return ids.failure();
  if (auto reset = session_.reset(); !reset) return reset;
  if (auto set = session_.set_sampler(sampler); !set) return set;
  if (auto added = session_.append(*ids); !added) return added;
  said_->words = line.shown;
  tessera::GenerateOptions options;
  options.max_tokens = kMostTokens;
  options.stop_texts = {"\n\n"};
  options.on_text = [said = said_.get()](std::string_view text) {
    if (said->words.empty()) text.remove_prefix(std::min(text.find_first_not_of(" \n"), text.size()));
    said->words += text;
    return said->words.size() < kEnough || !ends_sentence(said->words);
  };
  options.on_token = [said = said_.get()](std::uint32_t) {
    ++said->tokens;
    return true;
  };
  return session_.begin(std::move(options));
}

tessera::Expected<bool> Speech::step(double budget_us) {
  auto result = session_.step(budget_us);
  if (!result) return result.failure();
  return result->state == TESSERA_STEP_DONE;
}

tessera::Expected<tessera::Done> Speech::rehearse(const Line& line, double budget_us) {
  if (auto begun = begin(line, 0); !begun) return begun;
  for (bool ended = false; !ended;) {
    auto stepped = step(budget_us);
    if (!stepped) return stepped.failure();
    ended = *stepped;
    if (auto waited = session_.wait(UINT64_MAX); !waited) return waited.failure();
  }
  said_->words.clear();
  said_->tokens = 0;
  return tessera::Done{};
}

}  // namespace demo
