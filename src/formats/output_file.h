// A file that appears whole or not at all: written beside its place, then renamed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"

namespace tessera {

class OutputFile {
 public:
  static Result<OutputFile> create(
      const std::string& path);  // io, naming the path, when it cannot be written
  OutputFile(OutputFile&&) = default;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();  // removes what was not committed

  Result<void> write(std::span<const std::byte> bytes);
  Result<void> zeros(std::uint64_t count);
  std::uint64_t size() const { return size_; }
  // Gives the file its name, over a file that has it. Nothing may follow.
  Result<void> commit();
  const std::string& path() const { return path_; }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  OutputFile(std::string path, std::string temporary, std::FILE* file);
  Error error(const std::string& what) const;

  std::string path_, temporary_;
  std::unique_ptr<std::FILE, Close> file_;  // null when committed, failed or moved from
  std::uint64_t size_ = 0;
};

}  // namespace tessera
