// Every SPIR-V module, from shaders/kernels.inc: the one list that the build, the registry, tests and benches
// read.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "device/limits.h"

namespace tessera {

enum class Access : std::uint8_t { none = 0, read = 1, write = 2, read_write = 3 };

enum class KernelId : std::uint16_t {
#define TESSERA_KERNEL(name, ...) name,
#include "kernels.inc"
#undef TESSERA_KERNEL
  count
};

struct Kernel {
  KernelId id;
  std::string_view name;
  std::string_view origin;               // "built" by the configured glslang, or "prebuilt"
  std::span<const std::uint8_t> module;  // SPIR-V through gzip
  std::uint32_t binding_count;
  std::array<Access, 16> access;  // by binding, as the shader declares it: what hazard tracking reads
  std::uint32_t push_bytes;
  std::uint32_t spec_count;  // ids 0..spec_count-1
};
const Kernel& kernel(KernelId id);
std::span<const Kernel> kernels();
// Empty when `caps` allow the module, else the first capability that is missing ("subgroup_arithmetic").
std::string_view missing_capability(KernelId id, const Caps& caps);

}  // namespace tessera
