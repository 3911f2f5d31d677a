#include "reference/tensors.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/cache_row.h"

namespace tessera {

std::vector<ValueId> used_values(const Program& program) {
  std::vector<ValueId> used{program.state};
  for (const Graph& graph : program.graphs)
    for (const Op& op : graph.ops) {
      used.insert(used.end(), op.in.begin(), op.in.end());
      used.insert(used.end(), op.out.begin(), op.out.end());
    }
  std::ranges::sort(used);
  used.erase(std::unique(used.begin(), used.end()), used.end());
  if (!used.empty() && used.back() == kNoValue) used.pop_back();
  return used;
}

Tensors::Tensors(const Program& program, std::uint64_t keep_bytes)
    : program_(program), memory_(program.values.size()), kept_(program.values.size()) {
  std::uint64_t weight_floats = 0;
  for (ValueId id : used_values(program)) {
    const Value& value = program.values[id];
    if (value.storage == Storage::weight) {
      weight_floats += value.elems();
    } else if (value.storage != Storage::constant) {
      memory_[id].resize(value_bytes(value));
    }
  }
  keep_ = weight_floats <= keep_bytes / sizeof(float);
}

std::vector<float> Tensors::floats(ValueId id, std::uint64_t first, std::uint64_t n) const {
  std::vector<float> out(n);
  read(id, first, out);
  return out;
}

void Tensors::read(ValueId id, std::uint64_t first, std::span<float> out) const {
  const Value& value = program_.values[id];
  if (value.storage == Storage::constant) {
    std::copy_n(value.data->begin() + static_cast<std::ptrdiff_t>(first), out.size(), out.begin());
    return;
  }
  read_cache(value.dtype, value.last_dim(), bytes(id), first, out);  // any value's elements lie so
}

std::uint32_t Tensors::word(ValueId id, std::uint64_t index) const {
  std::uint32_t out = 0;
  std::memcpy(&out, memory_[id].data() + index * sizeof out, sizeof out);
  return out;
}

StepState Tensors::state(ValueId id) const {
  StepState out;
  std::memcpy(&out, memory_[id].data(), sizeof out);
  return out;
}

SamplerParams Tensors::sampler(ValueId id) const {
  SamplerParams out;
  std::memcpy(&out, memory_[id].data(), sizeof out);
  return out;
}

void Tensors::store(ValueId id, std::uint64_t element, double number) {
  const DType type = program_.values[id].dtype;
  const std::uint64_t size = info(type).block_bytes;
  const std::span<std::byte> at = std::span(memory_[id]).subspan(element * size, size);
  if (type == DType::u32) {  // not every one is a float
    const auto word = static_cast<std::uint32_t>(number);
    std::memcpy(at.data(), &word, sizeof word);
    return;
  }
  const auto single = static_cast<float>(number);
  encode_row(type, {&single, 1}, at);
}

void Tensors::store_row(ValueId id, std::uint64_t first, std::span<const float> numbers) {
  const Value& value = program_.values[id];
  write_cache(value.dtype, value.last_dim(), numbers, first, memory_[id]);
}

Result<void> Tensors::decode(ValueId weight, std::uint64_t first, std::span<float> out) const {
  const Value& value = program_.values[weight];
  std::vector<std::byte> file(file_bytes(out.size(), info(value.dtype)));
  TSR_CHECK(read_rows(program_, weight, first, file));
  decode_row(value.dtype, file, out);
  return {};
}

Result<std::span<const float>> Tensors::whole(ValueId id) {
  const Value& value = program_.values[id];
  if (value.storage == Storage::constant) return std::span<const float>(*value.data);
  std::vector<float>& kept = kept_[id];
  if (kept.empty()) {
    std::vector<float> all(value.elems());
    TSR_CHECK(decode(id, 0, all));
    kept = std::move(all);
  }
  return std::span<const float>(kept);
}

Result<std::vector<float>> Tensors::vector(ValueId id) {
  TSR_TRY(const std::span<const float> all, whole(id));
  return std::vector<float>(all.begin(), all.end());
}

Result<void> Tensors::for_rows(ValueId id, std::uint64_t first, std::uint64_t n, const RowUse& use) {
  const Value& value = program_.values[id];
  const std::uint64_t k = value.last_dim();
  if (keep_ || value.storage == Storage::constant) {
    TSR_TRY(const std::span<const float> all, whole(id));
    for (std::uint64_t r = first; r < first + n; ++r) use(r, all.subspan(r * k, k));
    return {};
  }
  std::vector<float> row(k);
  for (std::uint64_t r = first; r < first + n; ++r) {
    TSR_CHECK(decode(id, r, row));
    use(r, row);
  }
  return {};
}

}  // namespace tessera
