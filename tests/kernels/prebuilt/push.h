// Includes nothing, so that the prebuilt module here need not be made again when the product's headers change.
#ifndef TESSERA_TEST_PUSH_H
#define TESSERA_TEST_PUSH_H
#ifdef __cplusplus
#include <cstdint>
namespace tessera::shader {
using uint = std::uint32_t;
#endif
struct PlainPush {
  uint count;
  float value;
};
#ifdef __cplusplus
}
#endif
#endif
