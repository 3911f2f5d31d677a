#include "device/cache_blob.h"

#include <gmock/gmock.h>

namespace tessera {
namespace {

using testing::HasSubstr;

DeviceReport some_device() {
  DeviceReport r;
  r.vendor_id = 1;
  r.device_id = 2;
  r.driver_version = 3;
  r.api_version = 4;
  r.pipeline_cache_uuid.fill(5);
  return r;
}

std::vector<std::byte> some_payload() {
  std::vector<std::byte> bytes(100);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
  return bytes;
}

TEST(CacheBlob, ComesBack) {
  const auto blob = wrap_cache(some_device(), some_payload());
  const auto back = unwrap_cache(some_device(), blob);
  EXPECT_EQ(back.ignored, "");
  const auto payload = some_payload();
  EXPECT_TRUE(std::equal(back.payload.begin(), back.payload.end(), payload.begin(), payload.end()));
  const auto empty = wrap_cache(some_device(), {});
  EXPECT_EQ(unwrap_cache(some_device(), empty).ignored, "");
}

TEST(CacheBlob, DamageIsFoundAtEveryByte) {
  const auto blob = wrap_cache(some_device(), some_payload());
  for (std::size_t i = 0; i < blob.size(); ++i) {
    auto damaged = blob;
    damaged[i] ^= std::byte{0x10};
    const auto result = unwrap_cache(some_device(), damaged);
    EXPECT_NE(result.ignored, "") << i;
    EXPECT_TRUE(result.payload.empty()) << i;
  }
}

TEST(CacheBlob, AnyOtherLengthIsRefused) {
  auto blob = wrap_cache(some_device(), some_payload());
  for (std::size_t size = 0; size < blob.size(); ++size)
    EXPECT_NE(unwrap_cache(some_device(), std::span(blob).first(size)).ignored, "") << size;
  blob.push_back({});
  EXPECT_THAT(unwrap_cache(some_device(), blob).ignored, HasSubstr("length"));
}

TEST(CacheBlob, OtherDevicesAndDriversAreRefused) {
  const auto blob = wrap_cache(some_device(), some_payload());
  const auto ignored = [&](auto change) {
    DeviceReport other = some_device();
    change(other);
    return unwrap_cache(other, blob).ignored;
  };
  EXPECT_THAT(ignored([](DeviceReport& r) { r.vendor_id = 9; }), HasSubstr("another device"));
  EXPECT_THAT(ignored([](DeviceReport& r) { r.device_id = 9; }), HasSubstr("another device"));
  EXPECT_THAT(ignored([](DeviceReport& r) { r.driver_version = 9; }), HasSubstr("another driver"));
  EXPECT_THAT(ignored([](DeviceReport& r) { r.api_version = 9; }), HasSubstr("another driver"));
  EXPECT_THAT(ignored([](DeviceReport& r) { r.pipeline_cache_uuid[15] = 9; }), HasSubstr("another driver"));
}

}  // namespace
}  // namespace tessera
