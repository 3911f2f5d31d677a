// UTF-8, strictly as Unicode defines it: no overlong forms, no surrogates, nothing past U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tessera {

inline constexpr char32_t kReplacement = 0xFFFD;
inline constexpr std::string_view kReplacementUtf8 = "\xEF\xBF\xBD";

struct Utf8Char {
  char32_t code = kReplacement;
  std::uint32_t bytes = 1;  // never 0; of bad input, the bytes that one U+FFFD replaces
  bool valid = false;
  bool cut = false;  // not valid, but more bytes after the end of the text could make it so
};

// The character at `at` < text.size().
Utf8Char decode_utf8(std::string_view text, std::size_t at);
void append_utf8(std::string& out, char32_t code);
// Length of the longest valid prefix of `text` from `at`.
std::size_t valid_utf8_run(std::string_view text, std::size_t at);
// Bad bytes become U+FFFD.
std::string to_valid_utf8(std::string_view text);

}  // namespace tessera
