#include "base/text.h"

#include <cstddef>
#include <cstdint>

namespace tessera {
namespace {

// Bytes of the well-formed character at the start of `text`, 0 when there is none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const std::uint8_t second = byte(1);
  const bool overlong = (lead == 0xe0 && second < 0xa0) || (lead == 0xf0 && second < 0x90);
  const bool surrogate = lead == 0xed && second >= 0xa0;
  const bool too_large = lead == 0xf4 && second >= 0x90;
  return overlong || surrogate || too_large ? 0 : length;
}

// C0, DEL, C1, and the separators and direction marks that terminals act on.
bool printable(std::string_view character) {
  const auto lead = static_cast<std::uint8_t>(character[0]);
  if (character.size() == 1) return lead >= 0x20 && lead != 0x7f;
  const auto second = static_cast<std::uint8_t>(character[1]);
  if (character.size() == 2) return !(lead == 0xc2 && second < 0xa0);
  if (character.size() > 3 || lead != 0xe2) return true;
  const auto third = static_cast<std::uint8_t>(character[2]);
  const bool separator_or_bidi = second == 0x80 && third >= 0xa8 && third <= 0xae;  // U+2028..U+202E
  const bool isolate = second == 0x81 && third >= 0xa6 && third <= 0xa9;            // U+2066..U+2069
  return !separator_or_bidi && !isolate;
}

void append_hex(std::string& out, std::string_view bytes) {
  constexpr char digits[] = "0123456789abcdef";
  for (const char c : bytes) {
    const auto byte = static_cast<std::uint8_t>(c);
    out += "\\x";
    out += digits[byte >> 4];
    out += digits[byte & 15];
  }
}

}  // namespace

bool valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string quote(std::string_view text, std::size_t max_bytes) {
  const std::size_t size = text.size();
  std::string out = "\"";
  while (!text.empty()) {
    if (size - text.size() >= max_bytes) return out + "...\"";
    const std::size_t length = utf8_length(text);
    const std::string_view character = text.substr(0, length == 0 ? 1 : length);
    if (length == 0 || !printable(character)) {
      append_hex(out, character);
    } else {
      if (character == "\"" || character == "\\") out += '\\';
      out += character;
    }
    text.remove_prefix(character.size());
  }
  return out + '"';
}

}  // namespace tessera
