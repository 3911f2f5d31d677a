// The Unicode tables that tokenizers need, from utf8proc.
#pragma once

#include <string>
#include <string_view>

namespace tessera {

using CodePoints = std::u32string;

CodePoints to_code_points(std::string_view text);  // bad bytes become U+FFFD
// Canonical decomposition and composition, in O(n log n) for any text.
CodePoints nfd(std::u32string_view text);
std::string nfc(std::string_view text);

char32_t to_lower(char32_t code);
bool is_nonspacing_mark(char32_t code);   // Mn
bool is_bert_control(char32_t code);      // Cc, Cf, Co but for tab, newline, carriage return
bool is_bert_space(char32_t code);        // White_Space
bool is_bert_punctuation(char32_t code);  // P*, and every ASCII mark that is no letter, digit or space
bool is_cjk_ideograph(char32_t code);

}  // namespace tessera
