#include "device/limits.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <type_traits>

namespace tessera {
namespace {

enum class Rule : std::uint8_t { lower, raise_power_of_two, fixed, only_zero };

struct NumberInfo {
  std::string name;
  std::uint64_t floor;
  Rule rule = Rule::lower;
};

// Calls f(info, member) for every limit, in declaration order.
template <typename L, typename F>
void visit_limits(L& l, F f) {
  constexpr Limits kFloor;
  constexpr std::uint64_t kMiB = 1u << 20;
  const auto each = [&](const std::string& name, auto& member, const std::array<std::uint32_t, 3>& floor) {
    for (std::size_t i = 0; i < 3; ++i)
      f(NumberInfo{name + "_" + static_cast<char>('x' + i), floor[i]}, member[i]);
  };
  f(NumberInfo{"max_storage_range", kMiB}, l.max_storage_range);
  f(NumberInfo{"max_buffer_size", kMiB}, l.max_buffer_size);
  f(NumberInfo{"min_storage_alignment", 16, Rule::raise_power_of_two}, l.min_storage_alignment);
  f(NumberInfo{"max_bindings", kFloor.max_bindings}, l.max_bindings);
  f(NumberInfo{"max_group_invocations", kFloor.max_group_invocations}, l.max_group_invocations);
  each("max_group_size", l.max_group_size, kFloor.max_group_size);
  each("max_group_count", l.max_group_count, {1, 1, 1});
  f(NumberInfo{"max_shared_bytes", kFloor.max_shared_bytes}, l.max_shared_bytes);
  f(NumberInfo{"max_push_bytes", kFloor.max_push_bytes}, l.max_push_bytes);
  f(NumberInfo{"subgroup_size", 1, Rule::fixed}, l.subgroup_size);
  f(NumberInfo{"min_subgroup_size", 1, Rule::fixed}, l.min_subgroup_size);
  f(NumberInfo{"max_subgroup_size", l.subgroup_size}, l.max_subgroup_size);
  f(NumberInfo{"max_loop_iterations", 1024}, l.max_loop_iterations);
  f(NumberInfo{"timestamp_ns", 0, Rule::only_zero}, l.timestamp_ns);
}

// Calls f(name, member) for every capability, in declaration order.
template <typename C, typename F>
void visit_caps(C& c, F f) {
  f("storage16", c.storage16);
  f("storage8", c.storage8);
  f("fp16", c.fp16);
  f("int8", c.int8);
  f("subgroup_arithmetic", c.subgroup_arithmetic);
  f("subgroup_shuffle", c.subgroup_shuffle);
  f("subgroup_clustered", c.subgroup_clustered);
  f("subgroup_size_control", c.subgroup_size_control);
  f("int_dot", c.int_dot);
  f("int_dot_fast", c.int_dot_fast);
  f("coopmat", c.coopmat);
  f("coopmat2", c.coopmat2);
  f("bf16", c.bf16);
  f("software", c.software);
  f("memory_budget", c.memory_budget);
  f("executable_properties", c.executable_properties);
  f("push_descriptor", c.push_descriptor);
  f("global_priority", c.global_priority);
}

std::string valid_names() {
  std::string names;
  for (const NamedValue& v : list(Limits{}, Caps{})) names += (names.empty() ? "" : ", ") + v.name;
  return names;
}

Error refuse(const CapOverride& o, const std::string& why) {
  return {Code::invalid_argument,
          "capability override " + o.name + "=" + std::to_string(o.value) + ": " + why};
}

// Why `o` may not replace `now`; empty when it may.
std::string objection(const NumberInfo& info, std::uint64_t value, std::uint64_t now) {
  switch (info.rule) {
    case Rule::lower:
      if (value > now) return "the device has " + std::to_string(now) + ", which may only be lowered";
      if (value < info.floor) return "the least that kernels can run with is " + std::to_string(info.floor);
      return {};
    case Rule::raise_power_of_two:
      if (value < now) return "the device has " + std::to_string(now) + ", which may only be raised";
      if (!std::has_single_bit(value) || value > (1u << 20)) return "not a power of two up to 1048576";
      return {};
    case Rule::fixed: return value == now ? "" : "the hardware decides this (" + std::to_string(now) + ")";
    case Rule::only_zero: return value == 0 ? "" : "may only become 0 (no timestamps)";
  }
  return {};
}

Result<void> apply_one(const CapOverride& o, Limits& limits, Caps& caps) {
  bool known = false;
  std::string why;
  visit_limits(limits, [&](const NumberInfo& info, auto& member) {
    if (info.name != o.name) return;
    known = true;
    why = objection(info, o.value, static_cast<std::uint64_t>(member));
    if (why.empty()) member = static_cast<std::remove_reference_t<decltype(member)>>(o.value);
  });
  visit_caps(caps, [&](std::string_view name, bool& member) {
    if (name != o.name) return;
    known = true;
    if (o.value > 1)
      why = "a capability takes 0 or 1";
    else if (o.value == 1 && !member)
      why = "the device does not have it";
    else
      member = o.value == 1;
  });
  if (!known) return refuse(o, "unknown name; valid names: " + valid_names());
  if (!why.empty()) return refuse(o, why);
  return {};
}

}  // namespace

Result<CapOverride> parse_cap_override(std::string_view text) {
  const auto bad = [&](const std::string& why) {
    return Error{Code::invalid_argument, "capability override '" + std::string(text) + "': " + why};
  };
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) return bad("expected name=value");
  CapOverride out{std::string(text.substr(0, equals)), 0};
  std::string_view digits = text.substr(equals + 1);
  unsigned shift = 0;
  if (!digits.empty()) {
    switch (digits.back()) {
      case 'k': shift = 10; break;
      case 'm': shift = 20; break;
      case 'g': shift = 30; break;
      default: break;
    }
    if (shift) digits.remove_suffix(1);
  }
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out.value);
  if (error != std::errc{} || end != digits.data() + digits.size() ||
      (out.value << shift >> shift) != out.value)
    return bad("the value must be a whole number, or one with k, m or g behind it");
  out.value <<= shift;
  bool known = false;
  for (const NamedValue& v : list(Limits{}, Caps{})) known = known || v.name == out.name;
  if (!known) return bad("unknown name; valid names: " + valid_names());
  return out;
}

Result<void> apply(std::span<const CapOverride> overrides, Limits& limits, Caps& caps) {
  Limits new_limits = limits;
  Caps new_caps = caps;
  for (const CapOverride& o : overrides) TSR_CHECK(apply_one(o, new_limits, new_caps));
  if (!new_caps.subgroup_size_control)
    new_limits.min_subgroup_size = new_limits.max_subgroup_size = new_limits.subgroup_size;
  new_caps.coopmat2 = new_caps.coopmat2 && new_caps.coopmat;
  new_caps.int_dot_fast = new_caps.int_dot_fast && new_caps.int_dot;
  new_limits.max_storage_range = std::min(new_limits.max_storage_range, new_limits.max_buffer_size);
  limits = new_limits;
  caps = new_caps;
  return {};
}

std::vector<NamedValue> list(const Limits& limits, const Caps& caps) {
  constexpr std::string_view kChooseNothing[] = {"timestamp_ns", "memory_budget", "executable_properties",
                                                 "push_descriptor", "global_priority"};
  std::vector<NamedValue> out;
  const auto add = [&](std::string_view name, double value, bool is_cap) {
    const bool chooses = std::ranges::find(kChooseNothing, name) == std::end(kChooseNothing);
    out.push_back({std::string(name), value, is_cap, chooses});
  };
  visit_limits(limits, [&](const NumberInfo& info, const auto& member) {
    add(info.name, static_cast<double>(member), false);
  });
  visit_caps(caps, [&](std::string_view name, const bool& member) { add(name, member ? 1.0 : 0.0, true); });
  return out;
}

}  // namespace tessera
