// The text of a user's function as part of a shader. What it may say is a language of its own within GLSL: no
// directives, no resources, no arrays, no names but its own, those of its buffers and GLSL's functions of
// numbers. So it can reach nothing of the kernel that calls it, and reads no memory but its buffers.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/user_functions.h"

namespace tessera {

struct UserEntry {
  std::string_view input;      // of the public op: "score_glsl"
  std::string_view name;       // what the text must define
  std::string_view signature;  // "float score(float s, ...)"
  std::string_view fallback;   // the function where there is no text, as the kernel calls it
};
inline constexpr UserEntry kUserScore{
    "score_glsl", "score", "float score(float s, uint b, uint h, uint q, uint k)",
    "float user_score(float s, uint b, uint h, uint q, uint k) { return s; }\n"};
inline constexpr UserEntry kUserMask{"mask_glsl", "mask", "bool mask(uint b, uint h, uint q, uint k)",
                                     "bool user_mask(uint b, uint h, uint q, uint k) { return true; }\n"};

// `text` with its names prefixed, on the same lines; invalid_argument names the line.
Result<std::string> user_text(const UserEntry& entry, std::string_view text,
                              std::span<const UserBuffer> buffers);
// Of `b` and `h`, what a mask may depend on: what its text names.
struct MaskReach {
  bool batch = true, head = true;
};
MaskReach mask_reach(std::string_view user_text);
// Whether its text may hold a loop.
bool has_loops(std::string_view text);
// Whether a buffer can be read under this name.
bool is_user_name(std::string_view name);
// The function that user_text() reads a buffer by.
std::string user_buffer_name(std::string_view name);

// What a compiler's log says of texts that follow `#line 1 1` (the score) and `#line 1 2` (the mask), in the
// user's own names.
Error user_error(const UserFunctions& user, const std::string& log);

}  // namespace tessera
