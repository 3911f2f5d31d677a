// Text of unknown origin, made fit for a message.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tessera {

bool valid_utf8(std::string_view text);  // no overlong forms, surrogates, or code points over 10FFFF

// `text` in double quotes on one printable line: control characters and bytes that are not UTF-8 become \xNN,
// and what follows the first `max_bytes` becomes "...".
std::string quote(std::string_view text, std::size_t max_bytes = 120);
inline constexpr std::size_t kMaxQuotedPath = 512;

}  // namespace tessera
