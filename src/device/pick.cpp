#include <algorithm>
#include <charconv>
#include <string_view>

#include "device/device.h"

namespace tessera {
namespace {

int rank(DeviceType type) {
  switch (type) {
    case DeviceType::discrete: return 0;
    case DeviceType::integrated: return 1;
    case DeviceType::virtual_gpu: return 2;
    case DeviceType::other: return 3;
    case DeviceType::cpu: return 4;
  }
  return 5;
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool contains(std::string_view text, std::string_view part) {
  return std::search(text.begin(), text.end(), part.begin(), part.end(),
                     [](char a, char b) { return lower(a) == lower(b); }) != text.end();
}

std::string describe_all(std::span<const DeviceReport> reports) {
  std::string text;
  for (const DeviceReport& r : reports) {
    text += (text.empty() ? "" : "; ") + std::to_string(r.index) + " " + r.name;
    if (!r.refused.empty()) text += " (refused: " + r.refused + ")";
  }
  return text;
}

// The best usable report for which `matches`; null when there is none.
template <typename F>
const DeviceReport* best(std::span<const DeviceReport> reports, F matches) {
  const DeviceReport* found = nullptr;
  for (const DeviceReport& r : reports) {
    if (!r.refused.empty() || !matches(r)) continue;
    const auto key = [](const DeviceReport& d) { return std::pair(rank(d.type), d.index); };
    if (!found || key(r) < key(*found)) found = &r;
  }
  return found;
}

}  // namespace

Result<std::uint32_t> pick_device(std::span<const DeviceReport> reports, const std::string& wanted) {
  if (reports.empty()) return Error{Code::no_device, "no Vulkan device was found"};
  if (wanted.empty()) {
    if (const DeviceReport* r = best(reports, [](const DeviceReport&) { return true; })) return r->index;
    return Error{Code::no_device, "no usable Vulkan device: " + describe_all(reports)};
  }
  std::uint32_t index = 0;
  const auto [end, error] = std::from_chars(wanted.data(), wanted.data() + wanted.size(), index);
  if (error == std::errc{} && end == wanted.data() + wanted.size()) {
    for (const DeviceReport& r : reports) {
      if (r.index != index) continue;
      if (r.refused.empty()) return index;
      return Error{Code::no_device, "device " + wanted + " (" + r.name + ") cannot be used: " + r.refused};
    }
    return Error{Code::no_device, "there is no device " + wanted + "; there is: " + describe_all(reports)};
  }
  if (const DeviceReport* r = best(reports, [&](const DeviceReport& d) { return contains(d.name, wanted); }))
    return r->index;
  return Error{Code::no_device,
               "no usable device matches '" + wanted + "'; there is: " + describe_all(reports)};
}

}  // namespace tessera
