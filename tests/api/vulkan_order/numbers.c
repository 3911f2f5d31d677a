/* As on platforms whose pointers have 32 bits. */
#define VK_USE_64_BIT_PTR_DEFINES 0
#define TESSERA_SAME_TYPES tessera_numbers_c
#include "before.c"
