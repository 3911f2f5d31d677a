#include "conversation.h"

#include <algorithm>
#include <cmath>

namespace demo {
namespace {

constexpr double kLinger = 5, kFade = 0.5;  // seconds
constexpr std::size_t kLines = 3;

// The bundled model read novels, a naturalist's books and plays. What comes after a role's name is the
// role's.
const std::array<std::array<Line, kLines>, kCast>& lines() {
  static const std::array<std::array<Line, kLines>, kCast> all{
      {{{{"Once upon a time", "Once upon a time"},
         {"It was a cold winter evening, and", "It was a cold winter evening, and"},
         {"I looked into the fire, and", "I looked into the fire, and"}}},
       {{{"The species of this genus", "The species of this genus"},
         {"The birds of the forest", "The birds of the forest"},
         {"We may infer that the owl", "We may infer that the owl"}}},
       {{{"ROMEO:\n", ""}, {"KING HENRY:\n", ""}, {"HAMLET:\n", ""}}}}};
  return all;
}

}  // namespace

const char* Conversation::name(std::size_t speaker) {
  constexpr std::array<const char*, kCast> kNames{"fox", "owl", "bear"};
  return kNames[speaker];
}

const Line& Conversation::rehearsal(std::size_t speaker) { return lines()[speaker][kLines - 1]; }

tessera::Expected<tessera::Done> Conversation::step(double time, double budget_us) {
  Turn& turn = turns_[speaker_];
  Speech& speech = speeches_[speaker_];
  if (!turn.speaking) {
    const Line& line = lines()[speaker_][turn.count % kLines];
    if (auto begun = speech.begin(line, seed_ + 100 * turn.count + speaker_); !begun) return begun;
    turn.begun = turn.speaking = true;
    turn.length = 0;
    ++turn.count;
  }
  auto ended = speech.step(budget_us);
  if (!ended) return ended.failure();
  if (speech.words().size() != turn.length) turn.last_word = time;
  turn.length = speech.words().size();
  if (!*ended) return tessera::Done{};
  spoken_.push_back({speaker_, speech.words()});
  turn.speaking = false;
  turn.ended = time;
  speaker_ = (speaker_ + 1) % kCast;
  return tessera::Done{};
}

std::array<Actor, kCast> Conversation::cast(double time) const {
  std::array<Actor, kCast> out;
  for (std::size_t i = 0; i < kCast; ++i) {
    const Turn& turn = turns_[i];
    if (!turn.begun) continue;
    const double gone = turn.speaking ? 0 : time - turn.ended - kLinger;
    out[i].words = speeches_[i].words();
    out[i].speaking = turn.speaking;
    out[i].visible = static_cast<float>(std::clamp(1 - gone / kFade, 0.0, 1.0));
    const double since = time - turn.last_word;
    const double open = std::max(0.0, 1 - since / 0.3) * (0.55 + 0.45 * std::sin(time * 19));
    out[i].mouth = out[i].words.empty() ? 0 : static_cast<float>(open);
  }
  return out;
}

std::size_t Conversation::tokens() const {
  std::size_t sum = 0;
  for (const Speech& speech : speeches_) sum += speech.tokens();
  return sum;
}

std::vector<Conversation::Spoken> Conversation::spoken() const {
  std::vector<Spoken> all = spoken_;
  if (turns_[speaker_].speaking) all.push_back({speaker_, speeches_[speaker_].words()});
  return all;
}

}  // namespace demo
