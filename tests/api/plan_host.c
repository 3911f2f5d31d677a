#include "plan_host.h"

#include <string.h>

#define CHECK(condition)               \
  do {                                 \
    if (!(condition)) return __LINE__; \
  } while (0)

/* VkPipelineStageFlagBits and VkAccessFlagBits, without vulkan.h. */
enum { TRANSFER = 0x1000, TRANSFER_READ = 0x800, TRANSFER_WRITE = 0x1000 };

static void on_tensor(void* user, const tessera_plan_tensor* tensor) {
  uint64_t* bytes = user;
  if (strcmp(tensor->name, "W") == 0) *bytes = tensor->bytes;
}

int plan_host_record(struct plan_host* host) {
  const uint64_t x_shape[] = {3, 64}, w_shape[] = {32, 64};
  tessera_tensor inputs[2] = {TESSERA_INIT(tessera_tensor), TESSERA_INIT(tessera_tensor)};
  tessera_op_desc op = TESSERA_INIT(tessera_op_desc);
  tessera_plan_sink sink = TESSERA_INIT(tessera_plan_sink);
  tessera_bound_range ranges[3] = {TESSERA_INIT(tessera_bound_range), TESSERA_INIT(tessera_bound_range),
                                   TESSERA_INIT(tessera_bound_range)};
  tessera_slot slot = TESSERA_INIT(tessera_slot);
  tessera_bind_desc bind = TESSERA_INIT(tessera_bind_desc);
  tessera_record_desc record = TESSERA_INIT(tessera_record_desc);
  tessera_plan* plan = NULL;
  uint64_t packed = 0;
  tessera_error error;

  inputs[0].name = "X", inputs[0].type = "F32", inputs[0].shape = x_shape, inputs[0].dims = 2;
  inputs[1].name = "W", inputs[1].type = "Q4_0", inputs[1].shape = w_shape, inputs[1].dims = 2;
  op.op = "matmul", op.inputs = inputs, op.input_count = 2;
  CHECK(tessera_plan_create(host->context, &op, &plan, &error) == TESSERA_OK);

  sink.user = &packed;
  sink.tensor = on_tensor;
  CHECK(tessera_plan_describe(plan, &sink, &error) == TESSERA_OK);
  CHECK(packed != 0 && packed <= host->staging_size);
  inputs[1].data = host->file_bytes, inputs[1].bytes = host->file_size;
  CHECK(tessera_plan_pack(plan, "W", &inputs[1], 1, host->staging, packed, &error) == TESSERA_OK);

  ranges[0].name = "X", ranges[0].buffer = host->activations;
  ranges[1].name = "W", ranges[1].buffer = host->weights;
  ranges[2].name = "Y", ranges[2].buffer = host->activations, ranges[2].offset = host->y_offset;
  slot.tensors = ranges, slot.tensor_count = 3;
  bind.slots = &slot, bind.slot_count = 1;
  CHECK(tessera_bind(plan, &bind, &host->binding, &error) == TESSERA_OK);
  tessera_plan_destroy(plan);

  record.command_buffer = host->commands;
  record.before_stages = TRANSFER, record.before_access = TRANSFER_WRITE;
  record.after_stages = TRANSFER, record.after_access = TRANSFER_READ;
  CHECK(tessera_record(host->binding, &record, &error) == TESSERA_OK);
  return 0;
}
