// Where a file's bytes come from: a path (memory-mapped where the platform can), memory, or a host's reader.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"

namespace tessera {

class ByteSource {
 public:
  // Fills `out` from `offset`; returns false when it cannot. Called from one thread at a time.
  using Reader = std::function<bool(std::uint64_t offset, std::span<std::byte> out)>;

  // A regular file that is not empty; io otherwise. It must not be shortened while it is open: reading a
  // mapped page that is gone ends the process (SIGBUS).
  static Result<std::shared_ptr<ByteSource>> open(const std::string& path);
  static std::shared_ptr<ByteSource> from_memory(std::span<const std::byte> bytes);  // borrowed, outlives it
  static std::shared_ptr<ByteSource> from_reader(std::uint64_t size, Reader reader);

  virtual ~ByteSource() = default;
  virtual std::uint64_t size() const = 0;
  // io when the range leaves the file or the read fails. May be called from any thread.
  virtual Result<void> read(std::uint64_t offset, std::span<std::byte> out) const = 0;
  // The whole file when it is mapped or in memory, empty otherwise.
  virtual std::span<const std::byte> mapped() const { return {}; }
  const std::string& name() const { return name_; }  // for messages

 protected:
  std::string name_;
};

}  // namespace tessera
