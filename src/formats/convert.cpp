#include "formats/convert.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/text.h"
#include "formats/writer.h"

namespace tessera {
namespace {

// general.file_type: what most of the weights are.
std::uint32_t file_type(DType type) {
  switch (type) {
    case DType::f16: return 1;
    case DType::q4_0: return 2;
    case DType::q4_1: return 3;
    case DType::q8_0: return 7;
    case DType::q5_0: return 8;
    case DType::q5_1: return 9;
    case DType::bf16: return 32;
    case DType::f32:
    case DType::q4_k:
    case DType::q5_k:
    case DType::q6_k:
    case DType::u32:
    case DType::u8: break;
  }
  return 0;
}
constexpr std::uint32_t kQuantizationVersion = 2;

// The largest magnitude whose encoding is finite: 65520 is where f16, also as a block's scale, rounds to
// infinity.
float largest_value(DType type) {
  const float half = std::nextafter(65520.0f, 0.0f);
  switch (type) {
    case DType::f16: return half;
    case DType::q8_0: return half * 127.0f;
    case DType::q4_0: return half * 8.0f;
    case DType::q5_0: return half * 16.0f;
    case DType::q4_1:
    case DType::q5_1: return half;
    case DType::bf16: return 0x1.fep127f;
    case DType::f32:
    case DType::q4_k:
    case DType::q5_k:
    case DType::q6_k:
    case DType::u32:
    case DType::u8: break;
  }
  return std::numeric_limits<float>::max();
}

std::uint64_t row_elems(const TensorInfo& tensor) { return tensor.shape.empty() ? 1 : tensor.shape.back(); }

DType target(const TensorInfo& tensor, DType wanted) {
  if (tensor.shape.size() < 2) return DType::f32;
  return row_elems(tensor) % info(wanted).block_elems == 0 ? wanted : DType::f16;
}

Result<void> check_input(const ModelFile& in, DType type) {
  const std::string name = quote(in.source().name(), kMaxQuotedPath);
  if (!is_real(type))
    return Error{Code::invalid_argument, "convert: " + std::string(info(type).name) + " is no weight type"};
  if (!can_encode(type))
    return Error{Code::unsupported, "convert: " + std::string(info(type).name) + " is read, but not written"};
  if (in.kind() != FileKind::gguf) return Error{Code::unsupported, name + ": convert reads GGUF files only"};
  if (!in.unsupported_tensors().empty()) {
    const auto& tensor = in.unsupported_tensors().front();
    return Error{Code::unsupported, name + ": tensor " + quote(tensor.name) + " is " + tensor.type +
                                        ", which cannot be converted"};
  }
  return {};
}

Result<void> declare(const ModelFile& in, DType type, GgufWriter& out, ConvertReport& report) {
  for (const auto& [key, value] : in.metadata()) {
    if (key != "general.alignment") TSR_CHECK(out.set(key, value));
  }
  TSR_CHECK(out.set_u32("general.file_type", file_type(type)));
  if (info(type).block_elems > 1)
    TSR_CHECK(out.set_u32("general.quantization_version", kQuantizationVersion));
  for (const TensorInfo& tensor : in.tensors()) {
    const DType to = target(tensor, type);
    TSR_CHECK(out.add_tensor(tensor.name, to, tensor.shape));
    report.bytes_in += tensor.bytes;
    report.bytes_out += file_bytes(tensor.elems(), info(to));
    if (tensor.shape.size() < 2) {
      ++report.kept;
    } else if (to == type) {
      ++report.converted;
    } else {
      report.fallback.push_back(tensor.name);
    }
  }
  return {};
}

Result<void> convert_tensor(const ModelFile& in, const TensorInfo& tensor, DType to, GgufWriter& out) {
  const std::uint64_t columns = row_elems(tensor);
  std::vector<float> row(columns);
  std::vector<std::byte> bytes(file_bytes(columns, info(tensor.dtype)));
  const float largest = largest_value(to);
  for (std::uint64_t r = 0; r < tensor.elems() / columns; ++r) {
    TSR_CHECK(in.read(tensor, r * bytes.size(), bytes));
    decode_row(tensor.dtype, bytes, row);
    const auto bad = std::ranges::find_if(row, [&](float x) { return !(std::fabs(x) <= largest); });
    if (bad != row.end()) {
      return Error{Code::numeric, quote(in.source().name(), kMaxQuotedPath) + ": tensor " +
                                      quote(tensor.name) + " row " + std::to_string(r) + " column " +
                                      std::to_string(bad - row.begin()) + ": " + std::to_string(*bad) +
                                      " cannot be stored as " + std::string(info(to).name)};
    }
    TSR_CHECK(out.write_row(row));
  }
  return {};
}

}  // namespace

Result<ConvertReport> convert(const ModelFile& in, const std::string& out_path, DType type,
                              const Progress& progress) {
  TSR_CHECK(check_input(in, type));
  TSR_TRY(GgufWriter out, GgufWriter::create(out_path));
  ConvertReport result;
  TSR_CHECK(declare(in, type, out, result));
  std::uint64_t done = 0;
  for (const TensorInfo& tensor : in.tensors()) {
    if (!report(progress, "converting", done, result.bytes_in))
      return Error{Code::cancelled, "convert: cancelled"};
    TSR_CHECK(convert_tensor(in, tensor, target(tensor, type), out));
    done += tensor.bytes;
  }
  TSR_CHECK(out.finish());
  report(progress, "converting", done, result.bytes_in);
  return result;
}

}  // namespace tessera
