// Who speaks when: one at a time, from left to right; bubbles stay a while after the last word.
#pragma once

#include <array>

#include "scene.h"
#include "speech.h"

namespace demo {

class Conversation {
 public:
  Conversation(std::array<Speech, kCast> speeches, std::uint64_t seed)
      : speeches_(std::move(speeches)), seed_(seed) {}

  // One frame's share of whoever speaks. `time`: seconds since the first frame.
  tessera::Expected<tessera::Done> step(double time, double budget_us);
  std::array<Actor, kCast> cast(double time) const;
  std::size_t tokens() const;
  // What each has said, in order.
  struct Spoken {
    std::size_t speaker;
    std::string words;
  };
  std::vector<Spoken> spoken() const;

  static const char* name(std::size_t speaker);  // "fox"
  static const Line& rehearsal(std::size_t speaker);

 private:
  struct Turn {
    bool begun = false, speaking = false;
    double last_word = 0, ended = 0;  // times
    std::size_t length = 0;           // of the words when last seen
    std::size_t count = 0;
  };
  std::array<Speech, kCast> speeches_;
  std::array<Turn, kCast> turns_;
  std::uint64_t seed_;
  std::size_t speaker_ = 0;
  std::vector<Spoken> spoken_;
};

}  // namespace demo
