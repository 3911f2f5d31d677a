/* What docs/embedding.md shows, as a C99 program has it. */
#ifndef TESSERA_PLAN_HOST_H
#define TESSERA_PLAN_HOST_H

#include "tessera/tessera.h"

#ifdef __cplusplus
extern "C" {
#endif

struct plan_host {
  tessera_context* context;
  tessera_vk_buffer activations, weights; /* X at 0, Y at y_offset; W at 0 */
  uint64_t y_offset;
  const void* file_bytes; /* of W, Q4_0 (32, 64) */
  uint64_t file_size;
  void* staging; /* what is to be copied into `weights` */
  uint64_t staging_size;
  struct VkCommandBuffer_T* commands;
  tessera_binding* binding; /* what is left to destroy */
};

/* Records Y = X W^T of X F32 (3, 64) between transfers of the host's. 0, or the line that failed. */
int plan_host_record(struct plan_host* host);

#ifdef __cplusplus
}
#endif
#endif
