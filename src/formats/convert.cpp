#include "formats/convert.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <span>

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

constexpr float kLargestHalf = 0x1.ffdffep+15f;  // the next, 65520, rounds to infinity as f16
constexpr float kLargestBf16 = 0x1.fefffep+127f;

bool within(float x, float largest) { return std::fabs(x) <= largest; }  // NaN is not

// Index of the first value that `type` cannot hold: NaN, infinity, or one that would make its own encoding,
// or the scale or minimum of its block, infinite.
std::optional<std::size_t> first_bad(DType type, std::span<const float> row) {
  const auto first_beyond = [&](float largest) -> std::optional<std::size_t> {
    const auto at = std::ranges::find_if(row, [&](float x) { return !within(x, largest); });
    if (at == row.end()) return std::nullopt;
    return static_cast<std::size_t>(at - row.begin());
  };
  const auto above_minimum = [&](float steps) -> std::optional<std::size_t> {
    if (const auto bad = first_beyond(std::numeric_limits<float>::max())) return bad;
    const std::size_t block = info(type).block_elems;
    for (std::size_t b = 0; b < row.size(); b += block) {
      const auto [low, high] = std::ranges::minmax_element(row.subspan(b, block));
      if (!within(*low, kLargestHalf)) return static_cast<std::size_t>(low - row.begin());
      if (!within((*high - *low) / steps, kLargestHalf)) return static_cast<std::size_t>(high - row.begin());
    }
    return std::nullopt;
  };
  switch (type) {
    case DType::f16: return first_beyond(kLargestHalf);
    case DType::bf16: return first_beyond(kLargestBf16);
    case DType::q8_0: return first_beyond(kLargestHalf * 127.0f);
    case DType::q4_0: return first_beyond(kLargestHalf * 8.0f);
    case DType::q5_0: return first_beyond(kLargestHalf * 16.0f);
    case DType::q4_1: return above_minimum(15.0f);
    case DType::q5_1: return above_minimum(31.0f);
    case DType::f32:
    case DType::q4_k:
    case DType::q5_k:
    case DType::q6_k:
    case DType::u32:
    case DType::u8: break;
  }
  return first_beyond(std::numeric_limits<float>::max());
}

std::string number(float x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", static_cast<double>(x));
  return text;
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
    const std::uint64_t bytes = file_bytes(tensor.elems(), info(to));
    TSR_CHECK(out.add_tensor(tensor.name, to, tensor.shape));
    report.tensors.push_back({tensor.name, tensor.dtype, to, tensor.bytes, bytes});
    report.bytes_in += tensor.bytes;
    report.bytes_out += bytes;
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

// Reads, encodes and writes the tensors of a file, some rows at a time.
class Converter {
 public:
  Converter(const ModelFile& in, GgufWriter& out, const Progress& progress, std::uint64_t total)
      : in_(in), out_(out), progress_(progress), total_(total) {}

  Result<void> tensor(const TensorInfo& tensor, DType to) {
    const std::uint64_t columns = row_elems(tensor), rows = tensor.elems() / columns;
    const std::uint64_t row_bytes = file_bytes(columns, info(tensor.dtype));
    const std::uint64_t most = std::max<std::uint64_t>(1, kChunkElems / columns);
    for (std::uint64_t first = 0; first < rows; first += most) {
      if (!report(progress_, "converting", done_, total_))
        return Error{Code::cancelled, "convert: cancelled"};
      const auto count = static_cast<std::size_t>(std::min(most, rows - first));
      bytes_.resize(count * row_bytes);
      values_.resize(count * columns);
      TSR_CHECK(in_.read(tensor, first * row_bytes, bytes_));
      decode_row(tensor.dtype, bytes_, values_);
      if (const auto bad = first_bad(to, values_)) return refuse(tensor, to, first, columns, *bad);
      // Blocks that have the type already are not quantised a second time.
      TSR_CHECK(tensor.dtype == to ? out_.write(bytes_) : out_.write_row(values_));
      done_ += bytes_.size();
    }
    return {};
  }

 private:
  static constexpr std::uint64_t kChunkElems = 1u << 18;  // 1 MiB of floats

  Error refuse(const TensorInfo& tensor, DType to, std::uint64_t first, std::uint64_t columns,
               std::size_t bad) const {
    return Error{Code::numeric, quote(in_.source().name(), kMaxQuotedPath) + ": tensor " +
                                    quote(tensor.name) + " row " + std::to_string(first + bad / columns) +
                                    " column " + std::to_string(bad % columns) + ": " + number(values_[bad]) +
                                    " cannot be stored as " + std::string(info(to).name)};
  }

  const ModelFile& in_;
  GgufWriter& out_;
  const Progress& progress_;
  std::uint64_t total_, done_ = 0;
  std::vector<std::byte> bytes_;
  std::vector<float> values_;
};

}  // namespace

Result<ConvertReport> convert(const ModelFile& in, const std::string& out_path, DType type,
                              const Progress& progress) {
  TSR_CHECK(check_input(in, type));
  TSR_TRY(GgufWriter out, GgufWriter::create(out_path));
  ConvertReport result;
  TSR_CHECK(declare(in, type, out, result));
  Converter converter(in, out, progress, result.bytes_in);
  for (const TensorInfo& tensor : in.tensors()) TSR_CHECK(converter.tensor(tensor, target(tensor, type)));
  TSR_CHECK(out.finish());
  report(progress, "converting", result.bytes_in, result.bytes_in);
  return result;
}

}  // namespace tessera
