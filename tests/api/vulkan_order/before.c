/* clang-format off */
#include "tessera/tessera.h"
#include <vulkan/vulkan.h>
/* clang-format on */
#ifndef TESSERA_SAME_TYPES
#define TESSERA_SAME_TYPES tessera_before_vulkan_c
#endif
#include "same_types.h"
