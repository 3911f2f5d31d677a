#include "kernels/user_glsl.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <vector>

namespace tessera {
namespace {

// Compilers recurse over nested and long expressions.
constexpr std::size_t kMostBytes = 32 << 10, kMostDepth = 48, kMostTokens = 1000, kMostName = 64;

// GLSL's words and functions that mean the same in a user's text.
constexpr std::string_view kWords =
    " if else for while do return break continue switch case default true false const in out inout void bool "
    "int "
    "uint float vec2 vec3 vec4 ivec2 ivec3 ivec4 uvec2 uvec3 uvec4 bvec2 bvec3 bvec4 mat2 mat3 mat4 mat2x2 "
    "mat2x3 "
    "mat2x4 mat3x2 mat3x3 mat3x4 mat4x2 mat4x3 mat4x4 ";
constexpr std::string_view kFunctions =
    " radians degrees sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh pow exp log exp2 log2 sqrt "
    "inversesqrt abs sign floor trunc round roundEven ceil fract mod modf min max clamp mix step smoothstep "
    "isnan "
    "isinf floatBitsToInt floatBitsToUint intBitsToFloat uintBitsToFloat fma frexp ldexp length distance dot "
    "cross "
    "normalize faceforward reflect refract matrixCompMult outerProduct transpose determinant inverse "
    "lessThan "
    "lessThanEqual greaterThan greaterThanEqual equal notEqual any all not uaddCarry usubBorrow umulExtended "
    "imulExtended bitfieldExtract bitfieldInsert bitfieldReverse bitCount findLSB findMSB packUnorm2x16 "
    "packSnorm2x16 packUnorm4x8 packSnorm4x8 unpackUnorm2x16 unpackSnorm2x16 unpackUnorm4x8 unpackSnorm4x8 "
    "packHalf2x16 unpackHalf2x16 ";

// Words that would only confuse a compiler, or are refused by name because people try them.
constexpr std::string_view kRefused =
    " layout shared buffer uniform struct attribute varying coherent volatile restrict readonly writeonly "
    "subroutine precision highp mediump lowp precise discard double main barrier ";

bool lists(std::string_view words, std::string_view word) {
  return words.find(" " + std::string(word) + " ") != std::string_view::npos;
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string prefix_of(const UserEntry& entry) { return "user_" + std::string(entry.name) + "_"; }

class Scanner {
 public:
  Scanner(const UserEntry& entry, std::string_view text, std::span<const UserBuffer> buffers)
      : entry_(entry), text_(text), buffers_(buffers) {}

  Result<std::string> run() {
    if (text_.size() > kMostBytes)
      return Error{Code::invalid_argument, std::string(entry_.input) + " has " +
                                               std::to_string(text_.size()) + " bytes, at most " +
                                               std::to_string(kMostBytes) + " are taken"};
    while (at_ < text_.size()) TSR_CHECK(token());
    if (!open_.empty()) return refuse("'" + std::string(1, open_.back()) + "' is not closed");
    if (!defined_)
      return Error{Code::invalid_argument,
                   std::string(entry_.input) + " does not define '" + std::string(entry_.signature) + "'"};
    return std::move(out_);
  }

 private:
  Error refuse(const std::string& what) const {
    return {Code::invalid_argument,
            std::string(entry_.input) + ", line " + std::to_string(line_) + ": " + what};
  }
  char peek(std::size_t ahead) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }

  Result<void> token() {
    const char c = text_[at_];
    if (c == '\n') {
      ++line_;
      out_ += c;
      ++at_;
      return {};
    }
    if (c == ' ' || c == '\t' || c == '\r') {
      out_ += ' ';
      ++at_;
      return {};
    }
    if (c == '/' && (peek(1) == '/' || peek(1) == '*')) return comment();
    if (++tokens_ > kMostTokens)
      return refuse("a statement of more than " + std::to_string(kMostTokens) + " words and signs");
    Result<void> taken = is_letter(c)                                     ? word()
                         : is_digit(c) || (c == '.' && is_digit(peek(1))) ? number()
                                                                          : sign();
    last_ = out_.back();
    return taken;
  }

  Result<void> comment() {
    const bool line = peek(1) == '/';
    std::size_t end = text_.find(line ? "\n" : "*/", at_ + 2);
    if (end == std::string_view::npos) {
      if (!line) return refuse("a comment is not closed");
      end = text_.size();
    } else if (!line) {
      end += 2;
    }
    out_ += ' ';
    for (; at_ < end; ++at_)
      if (text_[at_] == '\n') {
        ++line_;
        out_ += '\n';
      }
    return {};
  }

  Result<void> number() {
    while (is_letter(peek(0)) || is_digit(peek(0)) || peek(0) == '.') {
      const char c = text_[at_];
      out_ += c;
      ++at_;
      if ((c == 'e' || c == 'E') && (peek(0) == '+' || peek(0) == '-')) out_ += text_[at_++];
    }
    return {};
  }

  const UserBuffer* buffer(std::string_view name) const {
    const auto at = std::ranges::find(buffers_, name, &UserBuffer::name);
    return at == buffers_.end() ? nullptr : &*at;
  }

  char next_sign() const {
    const std::size_t at = text_.find_first_not_of(" \t\r\n", at_);
    return at == std::string_view::npos ? '\0' : text_[at];
  }

  Result<void> word() {
    const std::size_t begin = at_;
    while (is_letter(peek(0)) || is_digit(peek(0))) ++at_;
    const std::string_view word = text_.substr(begin, at_ - begin);
    if (last_ == '.') {  // components
      out_ += word;
      return {};
    }
    if (word.size() > kMostName)
      return refuse("a name of more than " + std::to_string(kMostName) + " letters");
    if (lists(kRefused, word) || word.starts_with("gl_"))
      return refuse("'" + std::string(word) + "' is not taken in a user's function");
    const bool declared = open_.empty() && (is_letter(last_) || is_digit(last_));
    if (declared && lists(kFunctions, word))
      return refuse("'" + std::string(word) + "' is GLSL's own and not to be defined again");
    if (lists(kWords, word) || lists(kFunctions, word)) {
      out_ += word;
    } else if (word == entry_.name) {
      defined_ = true;
      out_ += "user_" + std::string(word);
    } else if (buffer(word) != nullptr) {
      if (next_sign() != '[')
        return refuse("the buffer '" + std::string(word) + "' is read as " + std::string(word) + "[index]");
      out_ += user_buffer_name(word);
      reads_buffer_ = true;
    } else {
      out_ += prefix_of(entry_) + std::string(word);
    }
    return {};
  }

  Result<void> sign() {
    const char c = text_[at_];
    constexpr std::string_view kSigns = "+-*/%<>=!&|^~?:;,.(){}[]";
    if (c == '#') return refuse("'#': directives are not taken in a user's function");
    if (static_cast<unsigned char>(c) < ' ' || static_cast<unsigned char>(c) > '~')
      return refuse("a byte of value " + std::to_string(static_cast<unsigned char>(c)) +
                    " outside a comment");
    if (kSigns.find(c) == std::string_view::npos)
      return refuse("'" + std::string(1, c) + "' is not taken in a user's function");
    if (c == ';' || c == '{' || c == '}') tokens_ = 0;
    ++at_;
    if (c == '(' || c == '{' || c == '[') return open(c);
    if (c == ')' || c == '}' || c == ']') return close(c);
    out_ += c;
    return {};
  }

  Result<void> open(char c) {
    if (c == '[' && !reads_buffer_)
      return refuse(
          "'[': only buffers are read by an index; there are no arrays, and components are .x to .w");
    reads_buffer_ = false;
    if (open_.size() == kMostDepth)
      return refuse("more than " + std::to_string(kMostDepth) + " brackets within each other");
    open_.push_back(c);
    out_ += c == '[' ? '(' : c;
    return {};
  }

  Result<void> close(char c) {
    const char wanted = c == ')' ? '(' : c == '}' ? '{' : '[';
    if (open_.empty() || open_.back() != wanted) return refuse("'" + std::string(1, c) + "' closes nothing");
    open_.pop_back();
    out_ += c == ']' ? ')' : c;
    return {};
  }

  const UserEntry& entry_;
  std::string_view text_;
  std::span<const UserBuffer> buffers_;
  std::size_t at_ = 0, line_ = 1, tokens_ = 0;
  std::vector<char> open_;
  std::string out_;
  char last_ = ' ';  // of the last word or sign
  bool defined_ = false, reads_buffer_ = false;
};

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
}

std::size_t word_at(std::string_view text, std::string_view word, std::size_t at) {
  const auto part = [&](std::size_t i) {
    return i < text.size() && (is_letter(text[i]) || is_digit(text[i]));
  };
  for (; (at = text.find(word, at)) != std::string_view::npos; ++at)
    if ((at == 0 || !part(at - 1)) && !part(at + word.size())) break;
  return at;
}
bool named_once(std::string_view text, std::string_view word) {
  const std::size_t at = word_at(text, word, 0);
  return at != std::string_view::npos && word_at(text, word, at + 1) == std::string_view::npos;
}

// The name in "uint name", empty where there is none.
std::string_view parameter_name(std::string_view declared) {
  const std::size_t end = declared.find_last_not_of(" \n");
  if (end == std::string_view::npos) return {};
  const std::string_view last = declared.substr(0, end + 1);
  const std::string_view word = last.substr(last.find_last_of(" \n") + 1);
  return word.starts_with(prefix_of(kUserMask)) ? word : std::string_view();
}

// In the user's words: names without their prefixes, one line.
std::string in_own_words(std::string text) {
  for (const UserEntry* entry : {&kUserScore, &kUserMask}) {
    replace_all(text, prefix_of(*entry), "");
    replace_all(text, "user_" + std::string(entry->name), entry->name);
  }
  replace_all(text, "user_buffer_", "");
  std::ranges::replace_if(
      text, [](char c) { return static_cast<unsigned char>(c) < ' '; }, ' ');
  const std::size_t end = text.find_last_not_of(' ');
  return text.substr(0, end == std::string::npos ? 0 : end + 1);
}

struct Place {
  std::uint32_t text = 0, line = 0;
  std::string_view message;
};

// "ERROR: 1:3: 'x' : undeclared identifier"
std::optional<Place> place_of(std::string_view line) {
  for (const std::string_view head : {"ERROR: ", "error: "})
    if (line.starts_with(head)) line.remove_prefix(head.size());
  Place place;
  const char* const end = line.data() + line.size();
  const auto text = std::from_chars(line.data(), end, place.text);
  if (text.ec != std::errc() || text.ptr == end || *text.ptr != ':') return std::nullopt;
  const auto number = std::from_chars(text.ptr + 1, end, place.line);
  if (number.ec != std::errc() || number.ptr == end || *number.ptr != ':') return std::nullopt;
  place.message = line.substr(static_cast<std::size_t>(number.ptr + 1 - line.data()));
  place.message.remove_prefix(std::min(place.message.find_first_not_of(' '), place.message.size()));
  return place;
}

}  // namespace

Result<std::string> user_text(const UserEntry& entry, std::string_view text,
                              std::span<const UserBuffer> buffers) {
  return Scanner(entry, text, buffers).run();
}

MaskReach mask_reach(std::string_view user_text) {
  const std::string name = "user_" + std::string(kUserMask.name);
  if (!named_once(user_text, name)) return {};  // declared before it is defined
  std::string_view rest = user_text.substr(word_at(user_text, name, 0));
  rest = rest.substr(std::min(rest.find('('), rest.size() - 1) + 1);
  bool reads[2] = {true, true};
  for (bool& read : reads) {
    const std::size_t end = rest.find_first_of(",)");
    if (end == std::string_view::npos) return {};
    const std::string_view parameter = parameter_name(rest.substr(0, end));
    read = !parameter.empty() && !named_once(user_text, parameter);
    rest = rest.substr(end + 1);
  }
  return {reads[0], reads[1]};
}

bool has_loops(std::string_view text) {
  return word_at(text, "for", 0) != std::string_view::npos ||
         word_at(text, "while", 0) != std::string_view::npos;
}

bool is_user_name(std::string_view name) {
  return !name.empty() && name.size() <= kMostName && is_letter(name[0]) &&
         std::ranges::all_of(name, [](char c) { return is_letter(c) || is_digit(c); }) &&
         !lists(kWords, name) && !lists(kFunctions, name) && !lists(kRefused, name) &&
         !name.starts_with("gl_") && name != kUserScore.name && name != kUserMask.name;
}

std::string user_buffer_name(std::string_view name) { return "user_buffer_" + std::string(name); }

Error user_error(const UserFunctions& user, const std::string& log) {
  const UserEntry* const entries[] = {&kUserScore, &kUserMask};
  for (std::size_t begin = 0; begin < log.size();) {
    const std::size_t end = std::min(log.find('\n', begin), log.size());
    const auto place = place_of(std::string_view(log).substr(begin, end - begin));
    if (place && place->text >= 1 && place->text <= 2)
      return {Code::invalid_argument, std::string(entries[place->text - 1]->input) + ", line " +
                                          std::to_string(place->line) + ": " +
                                          in_own_words(std::string(place->message))};
    begin = end + 1;
  }
  if (log.find("No function definition") != std::string::npos)
    for (const UserEntry* entry : entries)
      if (log.find("user_" + std::string(entry->name) + "(") != std::string::npos)
        return {Code::invalid_argument,
                std::string(entry->input) + " does not define '" + std::string(entry->signature) + "'"};
  const std::string which = user.score.empty()  ? std::string(kUserMask.input)
                            : user.mask.empty() ? std::string(kUserScore.input)
                                                : "score_glsl or mask_glsl";
  return {Code::invalid_argument, which + ": " + in_own_words(log)};
}

}  // namespace tessera
