// Parts of Program::check().
#pragma once

#include <string>

#include "graph/graph.h"

namespace tessera {

// What does not fit in an op of kind attention whose operands are counted and in range; empty when all does.
std::string check_attention(const Program& program, const Graph& graph, const Op& op);

}  // namespace tessera
