#include "device/cache_blob.h"

#include <cstring>
#include <type_traits>

#include "base/checksum.h"

namespace tessera {
namespace {

// Written as it lies in memory: the blob never leaves the machine, and a foreign byte order fails the magic.
struct Header {
  std::uint64_t magic = 0x3145484341435354;  // "TSCACHE1"
  std::uint32_t version = 1;
  std::uint32_t header_bytes = 64;
  std::uint64_t payload_bytes = 0;
  std::uint32_t vendor_id = 0, device_id = 0, driver_version = 0, api_version = 0;
  std::array<std::uint8_t, 16> uuid{};
  std::uint64_t checksum = 0;  // of the header before it, then the payload
};
static_assert(sizeof(Header) == 64 && std::has_unique_object_representations_v<Header>);

std::uint64_t checksum(const Header& header, std::span<const std::byte> payload) {
  const auto bytes = std::as_bytes(std::span(&header, 1)).first(offsetof(Header, checksum));
  return tessera::checksum(tessera::checksum(kChecksumStart, bytes), payload);
}

Header header_for(const DeviceReport& d) {
  Header h;
  h.vendor_id = d.vendor_id;
  h.device_id = d.device_id;
  h.driver_version = d.driver_version;
  h.api_version = d.api_version;
  h.uuid = d.pipeline_cache_uuid;
  return h;
}

}  // namespace

std::vector<std::byte> wrap_cache(const DeviceReport& device, std::span<const std::byte> payload) {
  Header h = header_for(device);
  h.payload_bytes = payload.size();
  h.checksum = checksum(h, payload);
  std::vector<std::byte> blob(sizeof h + payload.size());
  std::memcpy(blob.data(), &h, sizeof h);
  if (!payload.empty()) std::memcpy(blob.data() + sizeof h, payload.data(), payload.size());
  return blob;
}

UnwrappedCache unwrap_cache(const DeviceReport& device, std::span<const std::byte> blob) {
  Header h;
  if (blob.size() < sizeof h) return {{}, "it is too short"};
  std::memcpy(&h, blob.data(), sizeof h);
  const Header want = header_for(device);
  if (h.magic != want.magic || h.header_bytes != want.header_bytes) return {{}, "it is no pipeline cache"};
  if (h.version != want.version) return {{}, "it is of version " + std::to_string(h.version)};
  const auto payload = blob.subspan(sizeof h);
  if (h.payload_bytes != payload.size()) return {{}, "its length is wrong"};
  if (h.checksum != checksum(h, payload)) return {{}, "its checksum is wrong"};
  if (h.vendor_id != want.vendor_id || h.device_id != want.device_id) return {{}, "it is of another device"};
  if (h.driver_version != want.driver_version || h.api_version != want.api_version || h.uuid != want.uuid)
    return {{}, "it is of another driver"};
  return {payload, {}};
}

}  // namespace tessera
