// UTF-8, a character at a time.
#pragma once

#include <string_view>

namespace tool {

inline constexpr char32_t kDamaged = 0xffffffff;

// The character at the front of `text`, which is not empty; removes it. kDamaged: the byte there begins none,
// and it alone is removed.
char32_t next_character(std::string_view& text);

}  // namespace tool
