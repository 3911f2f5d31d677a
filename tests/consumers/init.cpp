// TESSERA_INIT where warnings are errors, in C++98: one struct, and an array of them.
#include <tessera/tessera.h>

tessera_tensor first_of_two() {
  const tessera_tensor tensors[2] = {TESSERA_INIT(tessera_tensor), TESSERA_INIT(tessera_tensor)};
  const tessera_op_desc desc = TESSERA_INIT(tessera_op_desc);
  return desc.size == sizeof(tessera_op_desc) ? tensors[0] : tensors[1];
}
