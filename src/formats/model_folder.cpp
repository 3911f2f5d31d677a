#include "formats/model_folder.h"

#include <filesystem>
#include <system_error>
#include <vector>

#include "base/text.h"

namespace tessera {

Result<ModelFolder> ModelFolder::open(const std::string& path) {
  std::error_code failure;
  std::filesystem::directory_iterator at(path, failure);
  ModelFolder folder;
  folder.name_ = "folder " + quote(path, kMaxQuotedPath);
  folder.path_ = path;
  for (; !failure && at != std::filesystem::directory_iterator(); at.increment(failure))
    folder.files_.emplace(at->path().filename().string(), nullptr);
  if (failure) return Error{Code::io, folder.name_ + ": " + failure.message()};
  return folder;
}

ModelFolder ModelFolder::from_files(std::map<std::string, std::shared_ptr<ByteSource>> files) {
  ModelFolder folder;
  folder.files_ = std::move(files);
  return folder;
}

Result<std::shared_ptr<ByteSource>> ModelFolder::file(const std::string& name) const {
  const auto at = files_.find(name);
  if (at == files_.end()) return Error{Code::bad_model, name_ + " has no file " + quote(name)};
  if (at->second) return at->second;
  return ByteSource::open((std::filesystem::path(path_) / name).string());
}

Result<std::shared_ptr<ByteSource>> ModelFolder::only(std::string_view suffix) const {
  std::vector<std::string> found;
  for (const auto& [name, source] : files_)
    if (name.ends_with(suffix)) found.push_back(name);
  if (found.size() == 1) return file(found[0]);
  return Error{Code::bad_model, name_ + " has " +
                                    (found.empty() ? "no file *" + std::string(suffix)
                                                   : "several files *" + std::string(suffix) + ", " +
                                                         quote(found[0]) + " and " + quote(found[1])) +
                                    ": one is needed"};
}

Result<std::string> read_all(const ByteSource& file, std::uint64_t most) {
  if (file.size() > most)
    return Error{Code::bad_model, quote(file.name(), kMaxQuotedPath) + " has " + std::to_string(file.size()) +
                                      " bytes, more than the " + std::to_string(most) + " it may have"};
  std::string text(file.size(), '\0');
  TSR_CHECK(file.read(0, std::as_writable_bytes(std::span(text))));
  return text;
}

}  // namespace tessera
