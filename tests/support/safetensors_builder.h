// Builds small safetensors files in memory; the header may be replaced by any text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "support/gguf_builder.h"

namespace tessera::test {

class SafetensorsBuilder {
 public:
  std::string metadata;  // a JSON object; empty: none

  // `bytes` of data that count up from 0, after those of the tensors before.
  SafetensorsBuilder& tensor(const std::string& name, const std::string& dtype,
                             const std::vector<std::uint64_t>& shape, std::size_t bytes) {
    std::string member = "\"";
    member += name;
    member += R"(":{"dtype":")";
    member += dtype;
    member += R"(","shape":[)";
    for (std::size_t i = 0; i < shape.size(); ++i) {
      if (i > 0) member += ',';
      member += std::to_string(shape[i]);
    }
    member += R"(],"data_offsets":[)";
    member += std::to_string(data_);
    member += ',';
    member += std::to_string(data_ + bytes);
    member += "]}";
    return raw(member, bytes);
  }
  // A member of the header as it stands, and that much more data.
  SafetensorsBuilder& raw(const std::string& member, std::size_t bytes = 0) {
    if (!members_.empty()) members_ += ',';
    members_ += member;
    data_ += bytes;
    return *this;
  }

  std::vector<std::byte> build() const {
    std::string header = "{";
    if (!metadata.empty()) header += R"("__metadata__":)" + metadata + (members_.empty() ? "" : ",");
    return with_header(header + members_ + "}", data_);
  }
  static std::vector<std::byte> with_header(const std::string& header, std::size_t data = 0) {
    Bytes out;
    out.string(header);
    for (std::size_t i = 0; i < data; ++i) out.put(static_cast<std::uint8_t>(i));
    return out.take();
  }

 private:
  std::string members_;
  std::size_t data_ = 0;
};

}  // namespace tessera::test
