// Compiled by C++20 and by GLSL. Interface headers hold constants and push structs of 4-byte scalars: one
// layout in both languages.
#ifndef TESSERA_INTERFACE_COMMON_H
#define TESSERA_INTERFACE_COMMON_H

#ifdef __cplusplus
#include <cstdint>
#define TSR_INTERFACE_BEGIN   \
  namespace tessera::shader { \
  using uint = std::uint32_t;
#define TSR_INTERFACE_END }
#define TSR_CONST inline constexpr
#else
#define TSR_INTERFACE_BEGIN
#define TSR_INTERFACE_END
#define TSR_CONST const
#endif

TSR_INTERFACE_BEGIN

// DType's numbers (base/dtype.h).
TSR_CONST uint kTypeF32 = 0;
TSR_CONST uint kTypeF16 = 1;
TSR_CONST uint kTypeBf16 = 2;
TSR_CONST uint kTypeQ8_0 = 3;
TSR_CONST uint kTypeQ4_0 = 4;
TSR_CONST uint kTypeQ4_1 = 7;
TSR_CONST uint kTypeQ5_0 = 8;
TSR_CONST uint kTypeQ5_1 = 9;
TSR_CONST uint kTypeQ4_K = 10;
TSR_CONST uint kTypeQ5_K = 11;
TSR_CONST uint kTypeQ6_K = 12;

// graph::Activation's numbers.
TSR_CONST uint kActNone = 0;
TSR_CONST uint kActSilu = 1;
TSR_CONST uint kActGeluTanh = 2;
TSR_CONST uint kActGeluErf = 3;
TSR_CONST uint kActRelu = 4;
TSR_CONST uint kActRelu2 = 5;
TSR_CONST uint kActSigmoid = 6;

TSR_INTERFACE_END
#endif
