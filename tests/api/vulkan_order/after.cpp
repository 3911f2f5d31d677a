#include <vulkan/vulkan.h>
// It goes second.
#include "tessera/tessera.hpp"
#define TESSERA_SAME_TYPES tessera_after_vulkan_cpp
#include "same_types.h"
