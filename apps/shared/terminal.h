// A terminal: progress bars on standard error, and nothing of the kind when it is a file; Ctrl-C.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "tessera/tessera.hpp"

namespace tool {

// Exit statuses: 0 fine, 1 failed, 2 wrong usage, 130 interrupted.
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;
inline constexpr int kInterrupted = 130;

bool is_terminal(int fd);

// Set by Ctrl-C; a second one ends the program at once.
bool interrupted();
void catch_interrupts();

// One line that is rewritten in place and erased at the end; silent when standard error is no terminal.
class ProgressBar {
 public:
  ProgressBar();
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  // For tessera calls: draws, and asks to stop after Ctrl-C.
  tessera::ProgressFn callback();
  void show(std::string_view stage, std::uint64_t done, std::uint64_t total);
  void clear();

 private:
  bool enabled_;
  bool drawn_ = false;
  std::string stage_;
  std::chrono::steady_clock::time_point last_{};
};

std::string human_bytes(double bytes);    // "7.4 MiB"
std::string human_seconds(double value);  // "12 ms", "3.41 s"

}  // namespace tool
