#include "sentencepiece_file.h"

#include <bit>

namespace tessera::test {
namespace {

struct Field {
  std::uint64_t number = 0;
  std::uint64_t value = 0;  // a varint's, or of 4 or 8 little-endian bytes
  std::string_view bytes;   // of a string or message
};

bool read_varint(std::string_view& in, std::uint64_t& value) {
  value = 0;
  for (int shift = 0; shift < 64 && !in.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(in.front());
    in.remove_prefix(1);
    value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

bool read_fixed(std::string_view& in, std::size_t size, std::uint64_t& value) {
  if (in.size() < size) return false;
  for (std::size_t i = size; i-- > 0;) value = value << 8 | static_cast<unsigned char>(in[i]);
  in.remove_prefix(size);
  return true;
}

// visit(field) for every field of a message; false when it is damaged.
template <typename Visit>
bool each_field(std::string_view message, Visit visit) {
  while (!message.empty()) {
    std::uint64_t key = 0;
    if (!read_varint(message, key)) return false;
    Field field;
    field.number = key >> 3;
    std::uint64_t size = 0;
    switch (key & 7) {
      case 0:
        if (!read_varint(message, field.value)) return false;
        break;
      case 1:
      case 5:
        if (!read_fixed(message, (key & 7) == 1 ? 8 : 4, field.value)) return false;
        break;
      case 2:
        if (!read_varint(message, size) || size > message.size()) return false;
        field.bytes = message.substr(0, size);
        message.remove_prefix(size);
        break;
      default: return false;
    }
    visit(field);
  }
  return true;
}

}  // namespace

// Field numbers: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
Result<VocabSpec> read_sentencepiece_model(std::string_view bytes) {
  VocabSpec spec;
  spec.model = "t5";
  spec.unk = 0;
  spec.bos = 1;
  spec.eos = 2;
  spec.remove_extra_whitespaces = true;
  bool good = true;
  const auto piece = [&](const Field& f) {
    if (f.number == 1) spec.tokens.back() = f.bytes;
    if (f.number == 2) spec.scores.back() = std::bit_cast<float>(static_cast<std::uint32_t>(f.value));
    if (f.number == 3) spec.types.back() = static_cast<std::uint32_t>(f.value);
  };
  const auto trainer = [&](const Field& f) {
    if (f.number == 3 && f.value == 2) spec.model = "llama";
    if (f.number == 40) spec.unk = static_cast<std::int32_t>(f.value);
    if (f.number == 41) spec.bos = static_cast<std::int32_t>(f.value);
    if (f.number == 42) spec.eos = static_cast<std::int32_t>(f.value);
  };
  const auto normalizer = [&](const Field& f) {
    if (f.number == 2) spec.normalizer_charsmap = f.bytes;
    if (f.number == 3) spec.add_space_prefix = f.value != 0;
    if (f.number == 4) spec.remove_extra_whitespaces = f.value != 0;
  };
  good &= each_field(bytes, [&](const Field& f) {
    if (f.number == 1) {
      spec.tokens.emplace_back();
      spec.scores.push_back(0);
      spec.types.push_back(1);
      good &= each_field(f.bytes, piece);
    }
    if (f.number == 2) good &= each_field(f.bytes, trainer);
    if (f.number == 3) good &= each_field(f.bytes, normalizer);
  });
  if (!good) return Error{Code::bad_model, "the SentencePiece model is damaged"};
  return spec;
}

}  // namespace tessera::test
