#include "session/saved_state.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace tessera {
namespace {

struct Header {
  std::uint64_t magic = 0x3153534553525354;  // "TSRSESS1"
  std::uint32_t version = 1;
  std::uint32_t header_bytes = 0;
  std::uint64_t total_bytes = 0;  // the checksum included
  SavedShape shape;
  std::uint32_t position = 0, tokens = 0, text_bytes = 0, reserved = 0;
  SamplerParams sampler;
};
static_assert(std::is_trivially_copyable_v<Header> && sizeof(Header) == 104);

constexpr std::uint64_t kSumBytes = sizeof(std::uint64_t);

template <typename T>
std::span<const std::byte> bytes_of(const T& item) {
  return std::as_bytes(std::span(&item, 1));
}

Error bad(const std::string& what) { return Error{Code::invalid_argument, "the saved session " + what}; }

std::uint64_t total_bytes(const Header& h) {
  return sizeof(Header) + std::uint64_t{h.tokens} * sizeof(TokenId) + h.text_bytes +
         cache_bytes(h.shape, h.position) + kSumBytes;
}

Result<void> check(const Header& h, std::uint64_t size, const SavedShape& shape) {
  const Header want;
  if (h.magic != want.magic || h.header_bytes != sizeof(Header) || h.reserved != 0)
    return bad("is something else");
  if (h.version != want.version) return bad("is of version " + std::to_string(h.version));
  if (h.shape.model != shape.model) return bad("is of another model");
  if (h.shape.kv_type != shape.kv_type) return bad("has a KV cache of another type");
  if (h.shape != shape) return bad("has a KV cache of another shape");
  // Numbers of a hostile header cannot overflow: the shape is this session's, the rest has 32 bits.
  if (h.total_bytes != size || total_bytes(h) != size)
    return bad("has " + std::to_string(size) + " bytes, not those that it says");
  if (h.position > h.tokens) return bad("has more positions than tokens");
  const SamplerParams& s = h.sampler;
  // Written so that a NaN is refused too.
  const bool valid = s.temperature >= 0 && s.temperature <= 1000 && s.top_p > 0 && s.top_p <= 1 &&
                     s.min_p >= 0 && s.min_p <= 1 && s.penalty > 0 && s.penalty <= 1000;
  if (!valid) return bad("has a sampler that no session has");
  return {};
}

}  // namespace

std::uint64_t cache_bytes(const SavedShape& shape, std::uint32_t positions) {
  const std::uint64_t row = file_bytes(shape.head_dim, info(static_cast<DType>(shape.kv_type)));
  return 2 * row * shape.kv_heads * shape.layers * positions;
}

// Names, types, shapes and first rows of all weights, and how positions turn: two models that agree in these
// are taken for one.
Result<SavedShape> saved_shape(const DecoderProgram& decoder) {
  const DecoderConfig& config = decoder.config;
  std::uint64_t sum = checksum(kChecksumStart, std::as_bytes(std::span(config.architecture)));
  std::vector<std::byte> row;
  for (const Value& value : decoder.program->values) {
    if (value.storage == Storage::constant) {
      const std::uint64_t width = value.elems() / value.shape[0];
      const std::uint64_t first = value.shape[0] > 1 ? width : 0;  // position 0 does not turn
      sum = checksum(sum, std::as_bytes(std::span(*value.data).subspan(first, width)));
    }
    if (value.storage != Storage::weight || !value.parts.empty()) continue;
    sum = checksum(sum, std::as_bytes(std::span(value.name)));
    sum = checksum(sum, bytes_of(value.dtype));
    sum = checksum(sum, std::as_bytes(std::span(value.shape)));
    row.resize(row_bytes(value));
    TSR_CHECK(decoder.program->weights->read(value, 0, row));
    sum = checksum(sum, row);
  }
  SavedShape shape;
  shape.model = sum;
  shape.layers = config.layers;
  shape.kv_heads = config.kv_heads;
  shape.head_dim = config.head_dim;
  shape.kv_type = static_cast<std::uint32_t>(decoder.kv_type);
  shape.vocab = config.vocab;
  return shape;
}

void StateWriter::header(const SavedShape& shape, const SavedState& state) {
  Header h;
  h.header_bytes = sizeof(Header);
  h.shape = shape;
  h.position = state.position;
  h.tokens = static_cast<std::uint32_t>(state.tokens.size());
  h.text_bytes = static_cast<std::uint32_t>(state.text.size());
  h.sampler = state.sampler;
  h.total_bytes = total_bytes(h);
  write(bytes_of(h));
  write(std::as_bytes(std::span(state.tokens)));
  write(std::as_bytes(std::span(state.text)));
}

void StateWriter::write(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  sum_ = checksum(sum_, bytes);
  sink_(bytes);
}

void StateWriter::finish() { sink_(bytes_of(sum_)); }

Result<ReadState> read_state(std::span<const std::byte> bytes, const SavedShape& shape) {
  Header h;
  if (bytes.size() < sizeof h + kSumBytes) return bad("is too short");
  std::memcpy(&h, bytes.data(), sizeof h);
  TSR_CHECK(check(h, bytes.size(), shape));
  std::uint64_t sum = 0;
  std::memcpy(&sum, bytes.data() + bytes.size() - kSumBytes, kSumBytes);
  bytes = bytes.first(bytes.size() - kSumBytes);
  if (checksum(kChecksumStart, bytes) != sum) return bad("is damaged: its checksum is wrong");

  ReadState out;
  out.state.position = h.position;
  out.state.sampler = h.sampler;
  bytes = bytes.subspan(sizeof h);
  out.state.tokens.resize(h.tokens);
  const std::size_t token_bytes = out.state.tokens.size() * sizeof(TokenId);
  if (token_bytes > 0) std::memcpy(out.state.tokens.data(), bytes.data(), token_bytes);
  bytes = bytes.subspan(token_bytes);
  out.state.text.assign(reinterpret_cast<const char*>(bytes.data()), h.text_bytes);
  out.cache = bytes.subspan(h.text_bytes);
  if (!std::ranges::all_of(out.state.tokens, [&](TokenId id) { return id < shape.vocab; }))
    return bad("has a token outside the vocabulary");
  return out;
}

}  // namespace tessera
