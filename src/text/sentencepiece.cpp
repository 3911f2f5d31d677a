#include "text/sentencepiece.h"

#include "text/family.h"
#include "text/utf8.h"

namespace tessera {
namespace {

std::uint32_t read_u32(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 4; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

// A Darts-clone unit: bit 8 says that a value hangs below, bits 10.. (times 256 if bit 9) lead to the
// children, bits 0-7 and 31 are the label, which must equal the byte that led here. A value unit has bit 31
// set.
std::uint32_t offset_of(std::uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }
std::uint32_t label_of(std::uint32_t unit) { return unit & (1u << 31 | 0xFF); }
bool has_value(std::uint32_t unit) { return (unit >> 8 & 1) != 0; }

}  // namespace

Result<CharsMap> CharsMap::parse(std::string_view blob) {
  CharsMap map;
  if (blob.empty()) return map;
  const auto bad = [](const char* what) {
    return Error{Code::bad_model, std::string("vocabulary: the precompiled character map ") + what};
  };
  if (blob.size() < 4) return bad("is shorter than its header");
  const std::size_t trie_bytes = read_u32(blob, 0);
  if (trie_bytes % 4 != 0 || trie_bytes > blob.size() - 4)
    return bad("says a size of its trie that cannot be");
  map.units_.reserve(trie_bytes / 4);
  for (std::size_t at = 4; at < 4 + trie_bytes; at += 4) map.units_.push_back(read_u32(blob, at));
  map.pool_ = blob.substr(4 + trie_bytes);
  return map;
}

std::optional<CharsMap::Match> CharsMap::longest(std::string_view text, std::size_t at) const {
  std::optional<Match> best;
  if (units_.empty()) return best;
  std::size_t node = offset_of(units_[0]);
  for (std::size_t i = at; i < text.size() && i - at < kMaxKeyBytes; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    node ^= byte;
    if (node >= units_.size() || label_of(units_[node]) != byte) break;
    const std::uint32_t unit = units_[node];
    node ^= offset_of(unit);
    if (!has_value(unit)) continue;
    if (node >= units_.size()) break;
    const std::size_t begin = units_[node] & 0x7FFFFFFF;
    if (begin >= pool_.size()) continue;
    const std::size_t end = pool_.find('\0', begin);
    if (end == std::string::npos || end - begin > kMaxReplacementBytes) continue;
    best = Match{std::string_view(pool_).substr(begin, end - begin), i + 1 - at};
  }
  return best;
}

Result<SentencePieceNormalizer> SentencePieceNormalizer::create(const VocabSpec& spec) {
  SentencePieceNormalizer normalizer;
  TSR_TRY(normalizer.map_, CharsMap::parse(spec.normalizer_charsmap));
  normalizer.add_prefix_ = spec.add_space_prefix;
  normalizer.remove_extra_ = spec.remove_extra_whitespaces;
  return normalizer;
}

std::string SentencePieceNormalizer::normalize(std::string_view text) const {
  std::string out;
  out.reserve(text.size() + text.size() / 2 + kSpaceMark.size());
  if (add_prefix_) out += kSpaceMark;
  const std::size_t start = out.size();
  bool drop_spaces = remove_extra_;  // at the beginning and after a space
  for (std::size_t at = 0; at < text.size();) {
    std::string_view chunk;
    if (const auto match = map_.longest(text, at)) {
      chunk = match->replacement;
      at += match->bytes;
    } else {
      // One U+FFFD a bad byte, as SentencePiece has it.
      const Utf8Char c = decode_utf8(text, at);
      const std::size_t bytes = c.valid ? c.bytes : 1;
      chunk = c.valid ? text.substr(at, bytes) : kReplacementUtf8;
      at += bytes;
    }
    while (drop_spaces && !chunk.empty() && chunk.front() == ' ') chunk.remove_prefix(1);
    if (chunk.empty()) continue;
    for (const char c : chunk) c == ' ' ? out += kSpaceMark : out += c;
    drop_spaces = remove_extra_ && chunk.back() == ' ';
  }
  if (remove_extra_) {
    while (out.size() > start && out.ends_with(kSpaceMark)) out.resize(out.size() - kSpaceMark.size());
  }
  if (out.size() == start) out.clear();
  return out;
}

namespace {

// U+2581 becomes a space.
void append_unescaped(std::string_view token, std::string& out) {
  for (std::size_t at = 0; at < token.size();) {
    const bool space = token.substr(at).starts_with(kSpaceMark);
    out += space ? ' ' : token[at];
    at += space ? kSpaceMark.size() : 1;
  }
}

}  // namespace

void SentencePiece::append_text(TokenId id, std::string& out) const {
  if (kind(id) == TokenKind::unknown)
    out += kUnknownSurface;
  else if (kind(id) == TokenKind::byte)
    out += static_cast<char>(*parse_byte_token(spec_.tokens[id]));
  else
    append_unescaped(spec_.tokens[id], out);
}

}  // namespace tessera
