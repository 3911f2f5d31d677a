// What is behind tessera_plan.
#pragma once

#include "api/op_request.h"
#include "schedule/graph_plan.h"

namespace tessera::api {

// A tensor of the plan as the host sees it.
struct HostTensor {
  std::size_t index = 0;  // in GraphPlan::tensors
  std::string type, output;
  std::vector<std::uint64_t> shape;
  std::vector<std::string> inputs;
  std::vector<const char*> input_names;  // of `inputs`
  bool packed = false, optional = false;
};

struct PlannedOp {
  OpRequest request;  // without data
  BuiltOp op;
  GraphPlan graph;
  std::vector<HostTensor> tensors;  // those of the graph but for what no kernel needs of them

  const PlanTensor& planned(const HostTensor& tensor) const { return graph.tensors[tensor.index]; }
  // invalid_argument, with what there is.
  Result<const HostTensor*> find(std::string_view name) const;
};

// What the tensor holds before the op runs, of inputs that all have data. out.size() is its bytes.
Result<void> write_content(const BuiltOp& op, const GraphPlan& graph, const PlanTensor& tensor,
                           std::span<std::byte> out);

}  // namespace tessera::api

struct tessera_plan {
  tessera_context* context = nullptr;
  std::shared_ptr<const tessera::api::PlannedOp> plan;  // bindings keep it too
};
