#include <nlohmann/json.hpp>
#include <utility>

#include "base/text.h"
#include "formats/writer.h"

namespace tessera {

Result<SafetensorsWriter> SafetensorsWriter::create(const std::string& path) {
  TSR_TRY(OutputFile out, OutputFile::create(path));
  return SafetensorsWriter(std::move(out));
}

Result<void> SafetensorsWriter::set(const std::string& key, std::string value) {
  const auto misuse = [&](const std::string& what) {
    return Error{Code::invalid_argument, "metadata " + quote(key) + ": " + what};
  };
  if (begun_) return misuse("is declared after the first tensor's data");
  if (!valid_utf8(key) || !valid_utf8(value)) return misuse("key and value must be UTF-8 text");
  metadata_.insert_or_assign(key, std::move(value));
  return {};
}

Result<void> SafetensorsWriter::add_tensor(const std::string& name, DType dtype,
                                           std::vector<std::uint64_t> shape) {
  const auto misuse = [&](const std::string& what) {
    return Error{Code::invalid_argument, "tensor " + quote(name) + ": " + what};
  };
  if (begun_) return misuse("is declared after the first tensor's data");
  if (info(dtype).block_elems != 1) return misuse("safetensors has no type " + std::string(info(dtype).name));
  if (name == "__metadata__") return misuse("the format keeps this name for its metadata");
  return stream_.add(name, dtype, std::move(shape), 1);
}

Result<void> SafetensorsWriter::write_head() {
  if (std::exchange(begun_, true)) return {};
  using json = nlohmann::ordered_json;
  json head = json::object();
  if (!metadata_.empty()) head["__metadata__"] = metadata_;
  for (const TensorStream::Tensor& tensor : stream_.tensors()) {
    head[tensor.name] = {{"dtype", info(tensor.dtype).name},
                         {"shape", tensor.shape},
                         {"data_offsets", {tensor.offset, tensor.offset + tensor.bytes}}};
  }
  std::string text = head.dump();  // every string in it was checked to be UTF-8
  constexpr std::size_t alignment = 8;
  text.resize((text.size() + alignment - 1) / alignment * alignment, ' ');
  const std::uint64_t length = text.size();
  TSR_CHECK(out_.write(std::as_bytes(std::span(&length, 1))));
  return out_.write(std::as_bytes(std::span(text)));
}

Result<void> SafetensorsWriter::write(std::span<const std::byte> bytes) {
  TSR_CHECK(write_head());
  return stream_.write(out_, bytes);
}

Result<void> SafetensorsWriter::write_row(std::span<const float> row) {
  TSR_CHECK(write_head());
  return stream_.write_row(out_, row);
}

Result<void> SafetensorsWriter::finish() {
  TSR_CHECK(stream_.check_complete());
  TSR_CHECK(write_head());
  return out_.commit();
}

}  // namespace tessera
