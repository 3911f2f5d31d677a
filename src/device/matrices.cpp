#include "device/matrices.h"

#include "device/matrices_query.h"

namespace tessera {
namespace {

MatrixType type_from(VkComponentTypeKHR type) {
  switch (static_cast<std::uint32_t>(type)) {
    case 0: return MatrixType::f16;
    case 1: return MatrixType::f32;
    case 3: return MatrixType::s8;
    case 5: return MatrixType::s32;
    case 7: return MatrixType::u8;
    case 9: return MatrixType::u32;
    case 1000141000: return MatrixType::bf16;
    default: return MatrixType::other;
  }
}

MatrixScope scope_from(VkScopeKHR scope) {
  switch (static_cast<std::uint32_t>(scope)) {
    case 2: return MatrixScope::workgroup;
    case 3: return MatrixScope::subgroup;
    default: return MatrixScope::other;
  }
}

// Keeps a shape that the two structs of Vulkan have in common: equal operands, no saturation.
template <typename Shape>
void keep(std::vector<MatrixShape>& out, MatrixShape s, const Shape& p) {
  if (p.AType != p.BType || p.CType != p.ResultType || p.saturatingAccumulation != VK_FALSE) return;
  s.a = type_from(p.AType);
  s.c = type_from(p.CType);
  s.scope = scope_from(p.scope);
  if (s.a == MatrixType::other || s.c == MatrixType::other || s.scope == MatrixScope::other) return;
  out.push_back(s);
}

// Drivers that report matrices and compute them with scalar instructions. The only place where a device's
// identity decides anything.
struct Quirk {
  std::uint32_t vendor;
  std::string_view driver;  // how the driver's name begins
  std::string_view device;  // a part of the device's name
};
// Mesa's Intel driver lowers DPAS before verx10 125 and on Meteor Lake (`lower_dpas`):
// https://gitlab.freedesktop.org/mesa/mesa/-/blob/main/src/intel/compiler/brw/brw_compiler.c
constexpr std::string_view kMesaIntel = "Intel open-source Mesa driver";
constexpr Quirk kEmulated[] = {
    {0x8086, kMesaIntel, "(SKL"}, {0x8086, kMesaIntel, "(BXT"}, {0x8086, kMesaIntel, "(KBL"},
    {0x8086, kMesaIntel, "(GLK"}, {0x8086, kMesaIntel, "(CFL"}, {0x8086, kMesaIntel, "(CML"},
    {0x8086, kMesaIntel, "(WHL"}, {0x8086, kMesaIntel, "(AML"}, {0x8086, kMesaIntel, "(ICL"},
    {0x8086, kMesaIntel, "(EHL"}, {0x8086, kMesaIntel, "(JSL"}, {0x8086, kMesaIntel, "(TGL"},
    {0x8086, kMesaIntel, "(RKL"}, {0x8086, kMesaIntel, "(ADL"}, {0x8086, kMesaIntel, "(RPL"},
    {0x8086, kMesaIntel, "(DG1"}, {0x8086, kMesaIntel, "(MTL"},
};

}  // namespace

void restrict_to(const Caps& caps, Matrices& matrices) {
  if (!caps.coopmat) matrices = {};
  if (caps.coopmat2) return;
  std::erase_if(matrices.shapes, [](const MatrixShape& s) { return s.flexible; });
  matrices.max_dimension = matrices.max_group = matrices.reserved_shared = 0;
  matrices.tensor_addressing = false;
}

std::string_view name(MatrixType type) {
  constexpr std::string_view kNames[] = {"f16", "bf16", "f32", "s8", "u8", "s32", "u32", "other"};
  return kNames[static_cast<std::size_t>(type)];
}

std::string describe(const MatrixShape& s) {
  std::string out = std::to_string(s.m) + "x" + std::to_string(s.n) + "x" + std::to_string(s.k) + " " +
                    std::string(name(s.a)) + "->" + std::string(name(s.c));
  if (s.flexible) out += " flexible";
  if (s.scope == MatrixScope::workgroup) out += " workgroup of " + std::to_string(s.group);
  return out;
}

std::string emulated_matrices(std::uint32_t vendor, std::string_view driver, std::string_view device) {
  for (const Quirk& q : kEmulated)
    if (q.vendor == vendor && driver.starts_with(q.driver) && device.find(q.device) != std::string_view::npos)
      return "the driver computes cooperative matrices of this device with scalar instructions";
  return {};
}

std::vector<MatrixShape> fixed_shapes(const InstanceTable& vk, VkPhysicalDevice handle) {
  std::vector<MatrixShape> out;
  if (!vk.GetPhysicalDeviceCooperativeMatrixPropertiesKHR) return out;
  std::vector<VkCooperativeMatrixPropertiesKHR> all;
  const VkCooperativeMatrixPropertiesKHR blank{VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR};
  read_all(all, blank, [&](std::uint32_t* count, VkCooperativeMatrixPropertiesKHR* list) {
    return vk.GetPhysicalDeviceCooperativeMatrixPropertiesKHR(handle, count, list);
  });
  for (const auto& p : all) {
    MatrixShape s;
    s.m = p.MSize;
    s.n = p.NSize;
    s.k = p.KSize;
    keep(out, s, p);
  }
  return out;
}

std::vector<MatrixShape> flexible_shapes(const InstanceTable& vk, VkPhysicalDevice handle) {
  std::vector<MatrixShape> out;
  if (!vk.GetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV) return out;
  using P = VkCooperativeMatrixFlexibleDimensionsPropertiesNV;
  std::vector<P> all;
  const P blank{VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_FLEXIBLE_DIMENSIONS_PROPERTIES_NV};
  read_all(all, blank, [&](std::uint32_t* count, P* list) {
    return vk.GetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV(handle, count, list);
  });
  for (const P& p : all) {
    MatrixShape s;
    s.m = p.MGranularity;
    s.n = p.NGranularity;
    s.k = p.KGranularity;
    s.flexible = true;
    s.group = p.workgroupInvocations;
    keep(out, s, p);
  }
  return out;
}

}  // namespace tessera
