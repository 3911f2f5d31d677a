#include "formats/gguf.h"

#include <array>

namespace tessera::gguf {
namespace {

struct ValueInfo {
  std::string_view name;
  std::uint32_t min_bytes;
};
constexpr std::array<ValueInfo, 13> kValues = {{{"u8", 1},
                                                {"i8", 1},
                                                {"u16", 2},
                                                {"i16", 2},
                                                {"u32", 4},
                                                {"i32", 4},
                                                {"f32", 4},
                                                {"bool", 1},
                                                {"string", 8},
                                                {"array", 0},
                                                {"u64", 8},
                                                {"i64", 8},
                                                {"f64", 8}}};

constexpr TensorType kTensorTypes[] = {
    {0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},      {3, "Q4_1", 32, 20},
    {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},      {8, "Q8_0", 32, 34},      {9, "Q8_1", 32, 40},
    {10, "Q2_K", 256, 84},    {11, "Q3_K", 256, 110},   {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},
    {14, "Q6_K", 256, 210},   {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66}, {17, "IQ2_XS", 256, 74},
    {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},   {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},
    {22, "IQ2_S", 256, 82},   {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},         {25, "I16", 1, 2},
    {26, "I32", 1, 4},        {27, "I64", 1, 8},        {28, "F64", 1, 8},        {29, "IQ1_M", 256, 56},
    {30, "BF16", 1, 2},       {34, "TQ1_0", 256, 54},   {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17},
};

struct DTypeId {
  DType type;
  std::uint32_t id;
};
constexpr DTypeId kDTypes[] = {
    {DType::f32, 0},   {DType::f16, 1},   {DType::bf16, 30}, {DType::q8_0, 8},
    {DType::q4_0, 2},  {DType::q4_1, 3},  {DType::q5_0, 6},  {DType::q5_1, 7},
    {DType::q4_k, 12}, {DType::q5_k, 13}, {DType::q6_k, 14},
};

}  // namespace

std::uint32_t min_bytes(ValueType type) {
  const auto index = static_cast<std::size_t>(type);
  return index < kValues.size() ? kValues[index].min_bytes : 0;
}

std::string_view name(ValueType type) {
  const auto index = static_cast<std::size_t>(type);
  return index < kValues.size() ? kValues[index].name : "unknown";
}

const TensorType* tensor_type(std::uint32_t id) {
  for (const TensorType& type : kTensorTypes) {
    if (type.id == id) return &type;
  }
  return nullptr;
}

std::optional<DType> to_dtype(std::uint32_t id) {
  for (const DTypeId& entry : kDTypes) {
    if (entry.id == id) return entry.type;
  }
  return std::nullopt;
}

std::optional<std::uint32_t> from_dtype(DType type) {
  for (const DTypeId& entry : kDTypes) {
    if (entry.type == type) return entry.id;
  }
  return std::nullopt;
}

}  // namespace tessera::gguf
