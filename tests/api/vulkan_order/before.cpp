#define TESSERA_SAME_TYPES tessera_before_vulkan_cpp
#include "before.c"
