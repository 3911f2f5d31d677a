// Reads a source from front to back in large pieces, and never past its end.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "formats/byte_source.h"

namespace tessera {

static_assert(std::endian::native == std::endian::little, "file formats are read as they lie, little-endian");

class Cursor {
 public:
  explicit Cursor(const ByteSource& source) : source_(source), window_(source.mapped()) {}

  std::uint64_t position() const { return base_ + at_; }
  std::uint64_t remaining() const { return source_.size() - position(); }

  // These give io when the source fails; the caller has checked `remaining`.
  template <typename T>
  Result<T> scalar() {
    static_assert(std::is_arithmetic_v<T>);
    T value{};
    TSR_CHECK(copy(std::as_writable_bytes(std::span(&value, 1))));
    return value;
  }
  Result<std::string> string(std::uint64_t size) {
    std::string text;
    // By pieces: a source that announces more than it can deliver fails before much is allocated.
    while (size > 0) {
      const auto piece = static_cast<std::size_t>(std::min<std::uint64_t>(size, kPiece));
      const std::size_t old = text.size();
      text.resize(old + piece);
      TSR_CHECK(copy(std::as_writable_bytes(std::span(text).subspan(old))));
      size -= piece;
    }
    return text;
  }

 private:
  static constexpr std::size_t kPiece = std::size_t{1} << 18;

  Result<void> copy(std::span<std::byte> out) {
    while (!out.empty()) {
      if (at_ == window_.size()) TSR_CHECK(refill());
      const std::size_t n = std::min(out.size(), window_.size() - at_);
      std::memcpy(out.data(), window_.data() + at_, n);
      at_ += n;
      out = out.subspan(n);
    }
    return {};
  }
  Result<void> refill() {
    base_ += window_.size();
    at_ = 0;
    window_ = {};
    const std::uint64_t left = source_.size() - base_;
    if (left == 0) return Error{Code::internal, "read past the end of a checked source"};
    buffer_.resize(static_cast<std::size_t>(std::min<std::uint64_t>(left, kPiece)));
    TSR_CHECK(source_.read(base_, buffer_));
    window_ = buffer_;
    return {};
  }

  const ByteSource& source_;
  std::span<const std::byte> window_;  // of the source, from base_
  std::vector<std::byte> buffer_;
  std::uint64_t base_ = 0;
  std::size_t at_ = 0;  // in window_
};

}  // namespace tessera
