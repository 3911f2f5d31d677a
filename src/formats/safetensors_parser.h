// Reads the head of a safetensors file into a ModelFile
// (https://github.com/huggingface/safetensors#format): u64 header bytes, a JSON object, the data.
#pragma once

#include <memory>

#include "formats/model_file.h"

namespace tessera {

class SafetensorsParser {
 public:
  static Result<ModelFile> parse(const std::shared_ptr<ByteSource>& source);  // of more than 8 bytes
};

}  // namespace tessera
