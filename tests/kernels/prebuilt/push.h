#ifndef TESSERA_TEST_PUSH_H
#define TESSERA_TEST_PUSH_H
#include "interface/common.h"
TSR_INTERFACE_BEGIN
struct PlainPush {
  uint count;
  float value;
};
TSR_INTERFACE_END
#endif
