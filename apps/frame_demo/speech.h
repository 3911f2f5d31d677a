// One character's voice: a session of Tessera's that says a line in steps, a share of each frame.
#pragma once

#include <memory>
#include <string>

#include "tessera/tessera.hpp"

namespace demo {

struct Line {
  std::string prompt;  // what the model continues
  std::string shown;   // how the words begin
};

class Speech {
 public:
  // model must outlive it.
  static tessera::Expected<Speech> create(const tessera::Model& model);

  // Forgets all and begins a line; the same seed gives the same words.
  tessera::Expected<tessera::Done> begin(const Line& line, std::uint64_t seed);
  // Submits at most `budget_us` microseconds of work; 0: as much as one step may be. Never waits for the
  // device. Whether the line has ended.
  tessera::Expected<bool> step(double budget_us);
  // The whole line, waiting for the device: from then on it is known what work takes, and work is cut to the
  // budget.
  tessera::Expected<tessera::Done> rehearse(const Line& line, double budget_us);

  const std::string& words() const { return said_->words; }
  std::size_t tokens() const { return said_->tokens; }  // of all lines

 private:
  struct Said {  // at a fixed address for the callbacks
    std::string words;
    std::size_t tokens = 0;
  };
  Speech(const tessera::Model& model, tessera::Session session)
      : model_(&model), session_(std::move(session)), said_(std::make_unique<Said>()) {}

  const tessera::Model* model_;
  tessera::Session session_;
  std::unique_ptr<Said> said_;
};

}  // namespace demo
