#include <vulkan/vulkan.h>
/* It goes second. */
#include "tessera/tessera.h"
#define TESSERA_SAME_TYPES tessera_after_vulkan_c
#include "same_types.h"
