// out(rows, dim) = table[tokens[position + row]]
#ifndef TESSERA_INTERFACE_EMBEDDING_H
#define TESSERA_INTERFACE_EMBEDDING_H
#include "common.h"
TSR_INTERFACE_BEGIN

TSR_CONST uint kEmbeddingTokens = 0;
TSR_CONST uint kEmbeddingState = 1;
TSR_CONST uint kEmbeddingTable = 2;
TSR_CONST uint kEmbeddingOut = 3;
TSR_CONST uint kEmbeddingBindings = 4;

TSR_CONST uint kEmbeddingSpecGroup = 0;  // invocations of a workgroup
TSR_CONST uint kEmbeddingSpecType = 1;   // kType*
TSR_CONST uint kEmbeddingSpecs = 2;

struct EmbeddingPush {
  uint rows;  // the most there can be; StepState has the real number
  uint dim;
  uint row_words;  // uvec4 a table row
  uint first;      // table row that the binding starts at
  uint count;      // table rows bound
  uint groups_x;   // workgroups in x and y, for group_index()
  uint groups_y;
};

TSR_INTERFACE_END
#endif
