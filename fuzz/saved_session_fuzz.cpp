#include <cstring>

#include "exercise.h"
#include "saved_session.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tessera;
  std::vector<std::byte> bytes(size);
  if (size > 0) std::memcpy(bytes.data(), data, size);
  if (size >= sizeof(std::uint64_t)) {  // time is not spent on guessing the checksum
    const std::span<std::byte> all(bytes);
    const std::uint64_t sum = checksum(kChecksumStart, all.first(size - sizeof sum));
    std::memcpy(all.last(sizeof sum).data(), &sum, sizeof sum);
  }
  const auto read = read_state(bytes, kSavedShape);
  if (!read.ok()) {
    check_message(read.error(), Code::invalid_argument);
    return 0;
  }
  require_that(read->cache.size() == cache_bytes(kSavedShape, read->state.position));
  require_that(std::ranges::all_of(read->state.tokens, [](TokenId id) { return id < kSavedShape.vocab; }));
  require_that(saved_session(read->state, read->cache) == bytes);
  return 0;
}
