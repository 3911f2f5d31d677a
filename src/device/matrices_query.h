// Reads Matrices from a driver.
#pragma once

#include "device/matrices.h"
#include "device/vk_table.h"

namespace tessera {

// Empty when the driver lacks the function.
std::vector<MatrixShape> fixed_shapes(const InstanceTable& vk, VkPhysicalDevice handle);
std::vector<MatrixShape> flexible_shapes(const InstanceTable& vk, VkPhysicalDevice handle);

// Matrices::emulated of a device, from the table of quirks.
std::string emulated_matrices(std::uint32_t vendor, std::string_view driver, std::string_view device);

}  // namespace tessera
