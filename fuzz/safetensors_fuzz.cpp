#include <cstring>

#include "exercise.h"

// Half of the inputs are whole files; of the others the header's length is made right, so that the JSON is
// reached.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::byte> bytes(size);
  if (size > 0) std::memcpy(bytes.data(), data, size);
  if (size > 9 && bytes[7] != std::byte{0}) {
    const std::uint64_t data_bytes = std::to_integer<std::uint64_t>(bytes[0]);
    const std::uint64_t length = size - 8 - std::min<std::uint64_t>(data_bytes, size - 9);
    std::memcpy(bytes.data(), &length, sizeof length);
    bytes[8] = std::byte{'{'};
  }
  tessera::exercise(bytes);
  return 0;
}
