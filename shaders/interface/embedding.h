// out(rows, dim) = scale * table[tokens[position + row]] + positions[position + row]; of a batch,
// scale * table[tokens[row]] + positions[position]
#ifndef TESSERA_INTERFACE_EMBEDDING_H
#define TESSERA_INTERFACE_EMBEDDING_H
#include "common.h"
TSR_INTERFACE_BEGIN

TSR_CONST uint kEmbeddingTokens = 0;
TSR_CONST uint kEmbeddingState = 1;
TSR_CONST uint kEmbeddingTable = 2;
TSR_CONST uint kEmbeddingOut = 3;
TSR_CONST uint kEmbeddingPositions = 4;
TSR_CONST uint kEmbeddingBindings = 5;

TSR_CONST uint kEmbeddingFlagBatch = 1;
TSR_CONST uint kEmbeddingFlagPositions = 2;

TSR_CONST uint kEmbeddingSpecGroup = 0;  // invocations of a workgroup
TSR_CONST uint kEmbeddingSpecType = 1;   // kType*
TSR_CONST uint kEmbeddingSpecs = 2;

struct EmbeddingPush {
  uint rows;  // of no batch: the most there can be; StepState has the real number
  uint dim;
  uint row_words;  // uvec4 a table row
  uint first;      // table row that the binding starts at
  uint count;      // table rows bound
  uint groups_x;   // workgroups in x and y, for group_index()
  uint groups_y;
  uint flags;  // kEmbeddingFlag*. No constants: one pipeline serves both
  float scale;
};

TSR_INTERFACE_END
#endif
