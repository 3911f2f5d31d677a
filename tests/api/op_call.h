// An operation described through the public header, and tensors of random content.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "tessera/tessera.hpp"

namespace tessera::test {

struct OpCall {
  std::string op;
  std::vector<Tensor> inputs;
  std::vector<std::string> attributes = {}, outputs = {};
};

inline Expected<OpPlan> plan_of(const Context& context, const OpCall& call) {
  return context.plan(call.op, call.inputs, call.attributes, call.outputs);
}

inline Tensor shape_of(std::string name, std::string type, std::vector<std::uint64_t> shape) {
  return {std::move(name), std::move(type), std::move(shape), {}};
}

template <typename T>
Tensor tensor_of(std::string name, std::string type, std::vector<std::uint64_t> shape,
                 const std::vector<T>& values) {
  Tensor out = shape_of(std::move(name), std::move(type), std::move(shape));
  out.data.resize(values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(out.data.data(), values.data(), out.data.size());
  return out;
}

// F32 and F16 between 1/8 and 1 in magnitude, blocks of Q8_0 and Q4_0 with a scale of 1/64; of other types
// anything.
inline Tensor random_tensor(std::string name, std::string type, std::vector<std::uint64_t> shape,
                            std::uint32_t seed) {
  std::uint64_t elems = 1;
  for (const std::uint64_t n : shape) elems *= n;
  std::uint32_t state = seed * 2654435761u + 12345;
  const auto word = [&] { return (state = state * 1664525u + 1013904223u) >> 8; };
  const auto half = [&] {
    const std::uint32_t bits = word();
    return static_cast<std::uint16_t>((bits & 0x8000) | (0x3000 + (bits & 0xbff)));
  };
  if (type == "F16") {
    std::vector<std::uint16_t> values(elems);
    for (auto& value : values) value = half();
    return tensor_of(std::move(name), std::move(type), std::move(shape), values);
  }
  if (type == "F32") {
    std::vector<float> values(elems);
    for (float& value : values)
      value = (word() & 1 ? -1.0f : 1.0f) * (0.125f + static_cast<float>(word() & 0xffff) / 74899.0f);
    return tensor_of(std::move(name), std::move(type), std::move(shape), values);
  }
  const std::size_t block = type == "Q8_0" ? 34 : 18;
  std::vector<std::uint8_t> bytes(elems / 32 * block);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(word());
  for (std::size_t at = 0; at < bytes.size(); at += block) {
    bytes[at] = 0;
    bytes[at + 1] = 0x24;
  }
  return tensor_of(std::move(name), std::move(type), std::move(shape), bytes);
}

// What tessera_plan_describe says of a tensor.
struct PlannedTensor {
  std::string name, type, output;
  std::vector<std::uint64_t> shape;
  std::vector<std::string> inputs;
  std::uint64_t bytes = 0, alignment = 0;
  bool reads = false, writes = false, packed = false, optional = false;
};
struct Planned {
  std::vector<PlannedTensor> tensors;
  std::vector<std::string> kernels;
  std::uint64_t scratch_bytes = 0, scratch_alignment = 0;

  const PlannedTensor* find(const std::string& name) const {
    for (const PlannedTensor& t : tensors)
      if (t.name == name) return &t;
    return nullptr;
  }
  std::string names() const {
    std::string text;
    for (const PlannedTensor& t : tensors) text += (text.empty() ? "" : " ") + t.name;
    return text;
  }
};
inline Planned describe(const OpPlan& plan) {
  Planned out;
  auto sink = init<tessera_plan_sink>();
  sink.user = &out;
  sink.tensor = [](void* user, const tessera_plan_tensor* t) {
    static_cast<Planned*>(user)->tensors.push_back({t->name,
                                                    t->type,
                                                    t->output,
                                                    {t->shape, t->shape + t->dims},
                                                    {t->inputs, t->inputs + t->input_count},
                                                    t->bytes,
                                                    t->alignment,
                                                    t->reads != 0,
                                                    t->writes != 0,
                                                    t->packed != 0,
                                                    t->optional != 0});
  };
  sink.kernel = [](void* user, const tessera_op_kernel* k) {
    static_cast<Planned*>(user)->kernels.push_back(k->name);
  };
  sink.total = [](void* user, const tessera_plan_totals* t) {
    static_cast<Planned*>(user)->scratch_bytes = t->scratch_bytes;
    static_cast<Planned*>(user)->scratch_alignment = t->scratch_alignment;
  };
  (void)plan.describe(sink);
  return out;
}

}  // namespace tessera::test
