#include "terminal.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>

namespace tool {
namespace {

volatile std::sig_atomic_t interrupt_count = 0;

void on_interrupt(int) {
  if (interrupt_count != 0) _exit(kInterrupted);
  interrupt_count = 1;
}

}  // namespace

bool interrupted() { return interrupt_count != 0; }
void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;  // no SA_RESTART: a read from the terminal ends too
  sigaction(SIGINT, &action, nullptr);
  std::signal(SIGPIPE, SIG_DFL);
}

bool is_terminal(int fd) { return isatty(fd) == 1; }

ProgressBar::ProgressBar() : enabled_(is_terminal(STDERR_FILENO)) {}
ProgressBar::~ProgressBar() { clear(); }

tessera::ProgressFn ProgressBar::callback() {
  return [this](std::string_view stage, std::uint64_t done, std::uint64_t total) {
    show(stage, done, total);
    return !interrupted();
  };
}

void ProgressBar::show(std::string_view stage, std::uint64_t done, std::uint64_t total) {
  if (!enabled_) return;
  if (total == 0 || done >= total) {
    clear();
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  if (stage == stage_ && now - last_ < std::chrono::milliseconds(80)) return;
  stage_ = stage;
  last_ = now;
  constexpr int kWidth = 30;
  const double part = static_cast<double>(done) / static_cast<double>(total);
  const int full = static_cast<int>(part * kWidth);
  std::string bar(static_cast<std::size_t>(full), '#');
  bar.resize(kWidth, '.');
  std::fprintf(stderr, "\r\033[K%-10s [%s] %3d %%", stage_.c_str(), bar.c_str(),
               static_cast<int>(part * 100));
  std::fflush(stderr);
  drawn_ = true;
}

void ProgressBar::clear() {
  if (!drawn_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  drawn_ = false;
}

std::string human_bytes(double bytes) {
  const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < std::size(units); ++unit) bytes /= 1024;
  char text[32];
  std::snprintf(text, sizeof(text), unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
  return text;
}

std::string human_seconds(double value) {
  char text[32];
  if (value < 1)
    std::snprintf(text, sizeof(text), "%.*f ms", value < 0.01 ? 2 : 0, value * 1000);
  else
    std::snprintf(text, sizeof(text), "%.2f s", value);
  return text;
}

}  // namespace tool
