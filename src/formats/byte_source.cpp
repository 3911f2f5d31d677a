#include "formats/byte_source.h"

#include <cerrno>
#include <cstring>
#include <mutex>
#include <system_error>
#include <utility>

#include "base/text.h"

#ifdef _WIN32
#include <filesystem>
#include <fstream>
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#endif

namespace tessera {
namespace {

Error io_error(const std::string& name, const std::string& what) {
  return Error{Code::io, quote(name, kMaxQuotedPath) + ": " + what};
}

Result<void> check_range(const ByteSource& source, std::uint64_t offset, std::uint64_t size) {
  if (offset <= source.size() && size <= source.size() - offset) return {};
  return io_error(source.name(), "bytes " + std::to_string(offset) + " to +" + std::to_string(size) +
                                     " lie beyond its " + std::to_string(source.size()) + " bytes");
}

class MemorySource : public ByteSource {
 public:
  MemorySource(std::string name, std::span<const std::byte> bytes) : bytes_(bytes) {
    name_ = std::move(name);
  }
  std::uint64_t size() const override { return bytes_.size(); }
  std::span<const std::byte> mapped() const override { return bytes_; }
  Result<void> read(std::uint64_t offset, std::span<std::byte> out) const override {
    TSR_CHECK(check_range(*this, offset, out.size()));
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
    return {};
  }

 protected:
  std::span<const std::byte> bytes_;
};

class ReaderSource : public ByteSource {
 public:
  ReaderSource(std::uint64_t size, Reader reader) : size_(size), reader_(std::move(reader)) {
    name_ = "(reader)";
  }
  std::uint64_t size() const override { return size_; }
  Result<void> read(std::uint64_t offset, std::span<std::byte> out) const override {
    TSR_CHECK(check_range(*this, offset, out.size()));
    const std::lock_guard lock(mutex_);
    if (out.empty() || (reader_ && reader_(offset, out))) return {};
    return io_error(name_, "the reader failed at offset " + std::to_string(offset) + " (" +
                               std::to_string(out.size()) + " bytes)");
  }

 private:
  std::uint64_t size_;
  Reader reader_;
  mutable std::mutex mutex_;
};

#ifdef _WIN32

Result<std::shared_ptr<ByteSource>> open_file(const std::string& path) {
  std::error_code failure;
  const auto status = std::filesystem::status(path, failure);
  if (!std::filesystem::exists(status)) return io_error(path, "no such file");
  if (std::filesystem::is_directory(status)) return io_error(path, "is a directory");
  if (!std::filesystem::is_regular_file(status)) return io_error(path, "is not a regular file");
  auto stream = std::make_shared<std::ifstream>(path, std::ios::binary | std::ios::ate);
  if (!*stream) return io_error(path, "cannot be opened");
  const auto size = static_cast<std::uint64_t>(stream->tellg());
  auto reader = [stream](std::uint64_t offset, std::span<std::byte> out) {
    stream->clear();
    stream->seekg(static_cast<std::streamoff>(offset));
    stream->read(reinterpret_cast<char*>(out.data()), static_cast<std::streamsize>(out.size()));
    return static_cast<bool>(*stream);
  };
  return ByteSource::from_reader(size, std::move(reader));
}

#else

std::string describe(int error) { return std::system_category().message(error); }

class MappedFile final : public MemorySource {
 public:
  MappedFile(std::string name, void* address, std::size_t size)
      : MemorySource(std::move(name), {static_cast<const std::byte*>(address), size}), address_(address) {}
  ~MappedFile() override { ::munmap(address_, bytes_.size()); }

 private:
  void* address_;
};

// For file systems that cannot map.
class UnmappedFile final : public ByteSource {
 public:
  UnmappedFile(std::string name, int file, std::uint64_t size) : file_(file), size_(size) {
    name_ = std::move(name);
  }
  ~UnmappedFile() override { ::close(file_); }
  std::uint64_t size() const override { return size_; }
  Result<void> read(std::uint64_t offset, std::span<std::byte> out) const override {
    TSR_CHECK(check_range(*this, offset, out.size()));
    while (!out.empty()) {
      const ssize_t got = ::pread(file_, out.data(), out.size(), static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0)
        return io_error(name_, "read at offset " + std::to_string(offset) + ": " + describe(errno));
      if (got == 0) return io_error(name_, "became shorter while it was read");
      offset += static_cast<std::uint64_t>(got);
      out = out.subspan(static_cast<std::size_t>(got));
    }
    return {};
  }

 private:
  int file_;
  std::uint64_t size_;
};

Result<void> check_regular(const std::string& path, const struct stat& status) {
  if (S_ISDIR(status.st_mode)) return io_error(path, "is a directory");
  if (!S_ISREG(status.st_mode)) return io_error(path, "is not a regular file");
  return {};
}

Result<std::shared_ptr<ByteSource>> open_file(const std::string& path) {
  struct stat status = {};
  // Looked at before it is opened, because opening a device can act on it.
  if (::stat(path.c_str(), &status) != 0) return io_error(path, describe(errno));
  TSR_CHECK(check_regular(path, status));
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return io_error(path, describe(errno));
  if (::fstat(file, &status) != 0 || !check_regular(path, status)) {
    ::close(file);
    return io_error(path, "changed while it was opened");
  }
  const auto size = static_cast<std::uint64_t>(status.st_size);
  void* address = MAP_FAILED;
  if (size > 0 && size <= SIZE_MAX) address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
  if (address == MAP_FAILED) return std::shared_ptr<ByteSource>(new UnmappedFile(path, file, size));
  ::close(file);
  return std::shared_ptr<ByteSource>(new MappedFile(path, address, size));
}

#endif

}  // namespace

Result<std::shared_ptr<ByteSource>> ByteSource::open(const std::string& path) {
  if (path.find('\0') != std::string::npos) return io_error(path, "a path cannot hold a NUL byte");
  TSR_TRY(std::shared_ptr<ByteSource> source, open_file(path));
  source->name_ = path;
  if (source->size() == 0) return io_error(path, "is empty");
  return source;
}

std::shared_ptr<ByteSource> ByteSource::from_memory(std::span<const std::byte> bytes) {
  return std::make_shared<MemorySource>("(memory)", bytes);
}

std::shared_ptr<ByteSource> ByteSource::from_reader(std::uint64_t size, Reader reader) {
  return std::make_shared<ReaderSource>(size, std::move(reader));
}

}  // namespace tessera
