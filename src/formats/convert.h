// A model file with its weights in another type.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/log.h"
#include "base/result.h"
#include "formats/model_file.h"

namespace tessera {

struct ConvertReport {
  struct Tensor {
    std::string name;
    DType from, to;
    std::uint64_t bytes_in = 0, bytes_out = 0;
  };
  std::vector<Tensor> tensors;                // in the order of the file
  std::uint64_t bytes_in = 0, bytes_out = 0;  // of all
  std::uint64_t converted = 0;                // tensors now in the wanted type
  std::uint64_t kept = 0;                     // tensors of one dimension: F32
  std::vector<std::string> fallback;          // tensors whose rows are no multiple of the block: F16
};

// Writes `in` (GGUF) to `out_path` (GGUF), which may be the file that `in` reads. Tensors of two and more
// dimensions become `type` (one that can_encode), or F16 where the row is no multiple of its block; the
// others (norms, biases) become F32; what has its type already is copied byte by byte. Metadata are copied;
// general.file_type and general.quantization_version are set. unsupported: safetensors, a tensor type that
// cannot be decoded, a k-quant as `type`; numeric: a value that is NaN, infinite or too large for the type,
// naming file, tensor, row and column; cancelled: `progress` said so. `out_path` is as it was then.
Result<ConvertReport> convert(const ModelFile& in, const std::string& out_path, DType type,
                              const Progress& progress);

}  // namespace tessera
