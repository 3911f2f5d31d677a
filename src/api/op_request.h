// Descriptions of operations and their tensors, from and to the C structs.
#pragma once

#include "api/handles.h"
#include "ops/ops.h"

namespace tessera::api {

// `what` names it in errors: "input 0".
Result<OpTensor> make_tensor(const tessera_tensor& from, const std::string& what);
// shapes_only: without the inputs' data.
Result<OpRequest> make_request(const tessera_context& context, const tessera_op_desc& desc, bool shapes_only);
// Of an output without data; lives as long as `output`.
tessera_tensor describe(const OpOutput& output);

}  // namespace tessera::api
