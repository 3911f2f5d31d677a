/* Compiles when the handles of tessera.h are vulkan.h's. Included after both, in either order. */
void TESSERA_SAME_TYPES(tessera_host_device* host, tessera_memory_block* block,
                        tessera_requirements_info* info, VkInstance instance, VkPhysicalDevice physical,
                        VkDevice device, VkQueue queue, VkDeviceMemory memory,
                        const VkAllocationCallbacks* callbacks, VkBuffer buffer, VkSemaphore semaphore);
void TESSERA_SAME_TYPES(tessera_host_device* host, tessera_memory_block* block,
                        tessera_requirements_info* info, VkInstance instance, VkPhysicalDevice physical,
                        VkDevice device, VkQueue queue, VkDeviceMemory memory,
                        const VkAllocationCallbacks* callbacks, VkBuffer buffer, VkSemaphore semaphore) {
  tessera_context_desc context = TESSERA_INIT(tessera_context_desc);
  tessera_vk_buffer same_buffer = buffer;
  tessera_vk_semaphore same_semaphore = semaphore;
  VkPhysicalDeviceFeatures2* features = info->features;
  host->instance = instance;
  host->physical_device = physical;
  host->device = device;
  host->queue = queue;
  host->features = features;
  block->memory = memory;
  context.allocation_callbacks = callbacks;
  context.host = host;
  (void)context;
  (void)same_buffer;
  (void)same_semaphore;
}
