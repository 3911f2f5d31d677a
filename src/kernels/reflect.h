// What a SPIR-V module says about itself, at compile time. Works on stripped modules: it needs decorations
// only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "kernels/catalogue.h"

namespace tessera {

struct ModuleInterface {
  bool ok = false;                  // false: not a module this walker can read
  std::array<Access, 16> access{};  // by binding of set 0
  std::uint32_t push_members = 0;
  std::array<std::uint32_t, 32> push_offsets{};  // of each member of the push struct
  std::uint32_t spec_mask = 0;                   // bit i: specialization constant i is used
  bool bindings_fit = true;                      // every binding is below 16 and in set 0
};

namespace spirv {
enum Op : std::uint32_t {
  kTypeStruct = 30,
  kTypePointer = 32,
  kFunction = 54,
  kVariable = 59,
  kDecorate = 71,
  kMemberDecorate = 72
};
enum Decoration : std::uint32_t {
  kSpecId = 1,
  kNonWritable = 24,
  kNonReadable = 25,
  kBinding = 33,
  kSet = 34,
  kOffset = 35
};
inline constexpr std::uint32_t kPushConstant = 9;  // storage class
inline constexpr std::uint32_t kMaxIds = 16384;
inline constexpr std::uint32_t kReadOnly = 1, kWriteOnly = 2;

struct Id {
  std::uint32_t pointee = 0;       // of a pointer type
  std::uint32_t first_member = 0;  // of a struct
  std::uint32_t members = 0;
  std::uint32_t access = 0;   // kReadOnly | kWriteOnly of a block or variable
  std::uint32_t binding = 0;  // plus one; 0: none
  std::uint32_t set = 0;
};

// Calls visit(op, operands) for every declaration, up to the first function. False when words are cut off.
template <typename Visit>
constexpr bool each_declaration(std::span<const std::uint32_t> words, Visit visit) {
  for (std::size_t i = 5; i < words.size();) {
    const std::uint32_t op = words[i] & 0xffffu, length = words[i] >> 16;
    if (length == 0 || i + length > words.size()) return false;
    if (op == kFunction) return true;
    visit(op, words.subspan(i + 1, length - 1));
    i += length;
  }
  return true;
}

constexpr std::uint32_t access_bit(std::uint32_t decoration) {
  return decoration == kNonWritable ? kReadOnly : decoration == kNonReadable ? kWriteOnly : 0;
}

constexpr Access to_access(std::uint32_t bits) {
  return bits == kReadOnly ? Access::read : bits == kWriteOnly ? Access::write : Access::read_write;
}
}  // namespace spirv

constexpr ModuleInterface reflect(std::span<const std::uint32_t> words) {
  using namespace spirv;
  ModuleInterface out;
  if (words.size() < 5 || words[0] != 0x07230203u || words[3] > kMaxIds) return out;
  Id ids[kMaxIds] = {};
  std::uint32_t push = 0;  // id of the push struct
  const bool whole = each_declaration(words, [&](std::uint32_t op, std::span<const std::uint32_t> a) {
    if (op == kDecorate && a[1] == kBinding) ids[a[0]].binding = a[2] + 1;
    if (op == kDecorate && a[1] == kSet) ids[a[0]].set = a[2];
    if (op == kDecorate && a[1] == kSpecId) out.spec_mask |= a[2] < 32 ? 1u << a[2] : 0x80000000u;
    if (op == kDecorate) ids[a[0]].access |= access_bit(a[1]);
    if (op == kMemberDecorate) ids[a[0]].access |= access_bit(a[2]);
    if (op == kTypeStruct) {
      ids[a[0]].members = static_cast<std::uint32_t>(a.size()) - 1;
      ids[a[0]].first_member = a.size() > 1 ? a[1] : 0;
    }
    if (op == kTypePointer) ids[a[0]].pointee = a[2];
    if (op != kVariable) return;
    const std::uint32_t type = ids[a[0]].pointee;
    if (a[2] == kPushConstant) {  // block { Struct p; } or a plain block
      const std::uint32_t inner = ids[type].first_member;
      push = ids[type].members == 1 && ids[inner].members > 0 ? inner : type;
    }
    if (const Id& variable = ids[a[1]]; variable.binding > 0) {
      if (variable.binding > out.access.size() || variable.set != 0) {
        out.bindings_fit = false;
        return;
      }
      // Two blocks may share a binding (words read as uint and as uvec4): the union of both.
      Access& access = out.access[variable.binding - 1];
      access = static_cast<Access>(static_cast<std::uint8_t>(access) |
                                   static_cast<std::uint8_t>(to_access(ids[type].access | variable.access)));
    }
  });
  each_declaration(words, [&](std::uint32_t op, std::span<const std::uint32_t> a) {
    if (op != kMemberDecorate || a[0] != push || a[2] != kOffset || a[1] >= out.push_offsets.size()) return;
    out.push_offsets[a[1]] = a[3];
    out.push_members = a[1] + 1 > out.push_members ? a[1] + 1 : out.push_members;
  });
  out.ok = whole && out.bindings_fit;
  return out;
}

// A kernel without parameters has an empty push struct.
template <typename Push>
inline constexpr std::size_t push_bytes = std::is_empty_v<Push> ? 0 : sizeof(Push);

// The module's push struct is `bytes` of 4-byte scalars one after the other.
constexpr bool push_matches(const ModuleInterface& module, std::size_t bytes) {
  if (bytes > 128 || bytes != std::size_t{4} * module.push_members) return false;
  for (std::uint32_t i = 0; i < module.push_members; ++i)
    if (module.push_offsets[i] != i * 4) return false;
  return true;
}

// It uses no binding from `count` on, and no specialization id from `count` on.
constexpr bool bindings_match(const ModuleInterface& module, std::uint32_t count) {
  for (std::uint32_t i = count; i < module.access.size(); ++i)
    if (module.access[i] != Access::none) return false;
  return module.ok;
}
constexpr bool specs_match(const ModuleInterface& module, std::uint32_t count) {
  return count < 32 && (module.spec_mask >> count) == 0;
}

// Stops the build when a module and its line in the catalogue disagree.
#define TSR_CHECK_MODULE(name, Push, bindings, specs)                                                     \
  static_assert(reflect(spv_##name).ok, #name ": not a readable SPIR-V module");                          \
  static_assert(push_matches(reflect(spv_##name), push_bytes<Push>),                                      \
                #name ": push constants are not " #Push);                                                 \
  static_assert(bindings_match(reflect(spv_##name), bindings), #name ": uses a binding past " #bindings); \
  static_assert(specs_match(reflect(spv_##name), specs), #name ": uses a constant_id past " #specs)

}  // namespace tessera
