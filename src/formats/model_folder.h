// A model of several files: a folder, or a host's files by name.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "formats/byte_source.h"

namespace tessera {

class ModelFolder {
 public:
  // io when it is no folder that can be read.
  static Result<ModelFolder> open(const std::string& path);
  static ModelFolder from_files(std::map<std::string, std::shared_ptr<ByteSource>> files);

  // bad_model when there is no such file; names are plain ones, without folders.
  Result<std::shared_ptr<ByteSource>> file(const std::string& name) const;
  // The one file whose name ends so; bad_model when there is none, or several.
  Result<std::shared_ptr<ByteSource>> only(std::string_view suffix) const;

 private:
  std::string path_;
  std::string name_ = "the model";                            // for messages
  std::map<std::string, std::shared_ptr<ByteSource>> files_;  // null: not opened yet
};

// The bytes of a small file; bad_model above `most`.
Result<std::string> read_all(const ByteSource& file, std::uint64_t most);

}  // namespace tessera
