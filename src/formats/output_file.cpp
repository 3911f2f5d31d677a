#include "formats/output_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/text.h"

#ifndef _WIN32
#include <unistd.h>
#endif

namespace tessera {
namespace {

std::string last_error() { return std::generic_category().message(errno); }

Error error_at(const std::string& path, const std::string& what) {
  return Error{Code::io, quote(path, kMaxQuotedPath) + ": " + what};
}

}  // namespace

OutputFile::OutputFile(std::string path, std::string temporary, std::FILE* file)
    : path_(std::move(path)), temporary_(std::move(temporary)), file_(file) {}

Error OutputFile::error(const std::string& what) const { return error_at(path_, what); }

Result<OutputFile> OutputFile::create(const std::string& path) {
  if (path.empty() || path.find('\0') != std::string::npos) return error_at(path, "is no path");
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  if (std::filesystem::is_directory(status)) return error_at(path, "is a directory");
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    return error_at(path, "is not a regular file");  // renaming over a device would remove it
  }
  constexpr int tries = 100;  // names that an interrupted run left behind
  for (int i = 0; i < tries; ++i) {
    std::string temporary = path + ".part" + std::to_string(i);
    errno = 0;
    if (std::FILE* file = std::fopen(temporary.c_str(), "wbx")) {
      return OutputFile(path, std::move(temporary), file);
    }
    if (errno != EEXIST) return error_at(path, "cannot be written: " + last_error());
  }
  return error_at(path,
                  "cannot be written: .part0 to .part" + std::to_string(tries - 1) + " beside it exist");
}

OutputFile::~OutputFile() {
  if (!file_) return;
  file_.reset();
  std::remove(temporary_.c_str());
}

Result<void> OutputFile::write(std::span<const std::byte> bytes) {
  if (!file_) return error("is already closed");
  if (!bytes.empty() && std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) {
    return error("writing failed: " + last_error());
  }
  size_ += bytes.size();
  return {};
}

Result<void> OutputFile::zeros(std::uint64_t count) {
  constexpr std::array<std::byte, 256> zero{};
  for (; count > 0; count -= std::min<std::uint64_t>(count, zero.size())) {
    TSR_CHECK(
        write(std::span(zero).first(static_cast<std::size_t>(std::min<std::uint64_t>(count, zero.size())))));
  }
  return {};
}

Result<void> OutputFile::commit() {
  if (!file_) return error("is already closed");
  bool written = std::fflush(file_.get()) == 0;
#ifndef _WIN32
  written = written && ::fsync(::fileno(file_.get())) == 0;  // before the name points to it
#endif
  std::string failure = written ? "" : last_error();
  if (std::fclose(file_.release()) != 0 && written) failure = last_error();
  if (failure.empty()) {
    std::error_code code;
    std::filesystem::rename(temporary_, path_, code);
    if (!code) return {};
    failure = code.message();
  }
  std::remove(temporary_.c_str());
  return error("writing failed: " + failure);
}

}  // namespace tessera
