// DecoderSession: to bytes and back.
#include <algorithm>

#include "session/decoder_session.h"

namespace tessera {

Result<void> DecoderSession::wait_until_idle() {
  constexpr std::uint64_t kWaitNs = 1'000'000'000;
  for (bool done = false; !done;) {
    TSR_TRY(done, poll(kWaitNs));
  }
  return {};
}

Result<void> DecoderSession::release_weights() {
  TSR_CHECK(wait_until_idle());
  return walker_->release_weights();
}

Result<const SavedShape*> DecoderSession::shape() {
  if (!shape_) {
    TSR_TRY(shape_, saved_shape(decoder_));
  }
  return &*shape_;
}

// The first rows of each head of each layer's caches, in order.
Result<void> DecoderSession::for_cache_rows(std::uint32_t positions, const CacheRows& use) const {
  if (positions == 0) return {};
  for (std::size_t layer = 0; layer < decoder_.k_caches.size(); ++layer)
    for (const ValueId cache : {decoder_.k_caches[layer], decoder_.v_caches[layer]}) {
      const Value& value = decoder_.program->values[cache];
      const std::uint64_t row = file_bytes(value.last_dim(), info(value.dtype));
      for (std::uint64_t head = 0; head < value.shape[0]; ++head)
        TSR_CHECK(use(cache, head * value.shape[1] * row, positions * row));
    }
  return {};
}

Result<void> DecoderSession::save(std::string_view text, const StateWriter::Sink& sink) {
  TSR_CHECK(wait_until_idle());
  TSR_TRY(const SavedShape* const saved, shape());
  StateWriter writer(sink);
  writer.header(*saved, {position_, sampler_, tokens_, std::string(text)});
  std::vector<std::byte> rows;
  TSR_CHECK(for_cache_rows(position_, [&](ValueId cache, std::uint64_t offset, std::uint64_t bytes) {
    rows.resize(bytes);
    auto read = walker_->read(cache, offset, rows);
    if (read.ok()) writer.write(rows);
    return read;
  }));
  writer.finish();
  return {};
}

Result<std::string> DecoderSession::restore(std::span<const std::byte> bytes) {
  TSR_TRY(const SavedShape* const saved, shape());
  TSR_TRY(const ReadState read, read_state(bytes, *saved));
  // The token of a full cache may be pending.
  if (read.state.tokens.size() > std::size_t{decoder_.context} + 1 || read.state.position > decoder_.context)
    return Error{Code::invalid_argument, "the saved session has " + std::to_string(read.state.tokens.size()) +
                                             " tokens, which do not fit the context of " +
                                             std::to_string(decoder_.context)};
  TSR_CHECK(wait_until_idle());
  reset();
  std::span<const std::byte> rows = read.cache;
  TSR_CHECK(for_cache_rows(read.state.position, [&](ValueId cache, std::uint64_t offset, std::uint64_t n) {
    const auto part = rows.first(n);
    rows = rows.subspan(n);
    return walker_->write(cache, offset, part);
  }));
  TSR_CHECK(set_sampler(read.state.sampler));
  tokens_.assign(read.state.tokens.begin(), read.state.tokens.end());
  position_ = read.state.position;
  return read.state.text;
}

}  // namespace tessera
