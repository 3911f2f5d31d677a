// The library never prints: it hands lines to the host's callback.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace tessera {

enum class LogLevel : int { debug = 0, info = 1, warning = 2, error = 3 };
using Log = std::function<void(LogLevel, std::string_view)>;  // may be empty; may be called from any thread

// Called now and then during long work with a stage ("reading", "pipelines", "prefill") and how far it is.
// Returning false cancels: the work stops soon and gives Code::cancelled. May be empty.
using Progress = std::function<bool(std::string_view stage, std::uint64_t done, std::uint64_t total)>;

inline void log(const Log& sink, LogLevel level, std::string_view text) {
  if (sink) sink(level, text);
}
inline bool report(const Progress& progress, std::string_view stage, std::uint64_t done,
                   std::uint64_t total) {
  return !progress || progress(stage, done, total);
}

}  // namespace tessera
