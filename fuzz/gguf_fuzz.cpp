#include <cstring>

#include "exercise.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::byte> bytes(size);
  if (size > 0) std::memcpy(bytes.data(), data, size);
  constexpr char magic[] = {'G', 'G', 'U', 'F'};
  if (size >= 4) std::memcpy(bytes.data(), magic, 4);  // time is not spent on guessing it
  tessera::exercise(bytes);
  return 0;
}
