#include "api/op_request.h"

namespace tessera::api {

Result<OpTensor> make_tensor(const tessera_tensor& from, const std::string& what) {
  if (from.name == nullptr || from.type == nullptr)
    return Error{Code::invalid_argument, what + ": its name or type is NULL"};
  if (from.dims != 0 && from.shape == nullptr)
    return Error{Code::invalid_argument, what + " ('" + from.name + "'): its shape is NULL"};
  if (from.dims > kMaxRank)
    return Error{Code::invalid_argument, what + " ('" + from.name + "') has " + std::to_string(from.dims) +
                                             " dimensions, at most " + std::to_string(kMaxRank) +
                                             " are taken"};
  OpTensor out{from.name, from.type, {}, {}};
  out.shape.assign(from.shape, from.shape + from.dims);
  if (from.data != nullptr) out.data = {static_cast<const std::byte*>(from.data), from.bytes};
  return out;
}

Result<OpRequest> make_request(const tessera_context& context, const tessera_op_desc& desc,
                               bool shapes_only) {
  TSR_CHECK(require(desc.op, "op"));
  if (desc.attribute_count != 0) TSR_CHECK(require(desc.attributes, "attributes"));
  if (desc.output_count != 0) TSR_CHECK(require(desc.outputs, "outputs"));
  TSR_TRY(const auto inputs, sized_array(desc.inputs, desc.input_count, "inputs"));
  OpRequest request{
      .op = desc.op, .inputs = {}, .attributes = {}, .outputs = {}, .user = {}, .shapes_only = shapes_only};
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    TSR_TRY(OpTensor tensor, make_tensor(inputs[i], "input " + std::to_string(i)));
    if (shapes_only) tensor.data = {};
    request.inputs.push_back(std::move(tensor));
  }
  for (std::uint32_t i = 0; i < desc.attribute_count; ++i)
    request.attributes.emplace_back(desc.attributes[i] == nullptr ? "" : desc.attributes[i]);
  for (std::uint32_t i = 0; i < desc.output_count; ++i)
    request.outputs.emplace_back(desc.outputs[i] == nullptr ? "" : desc.outputs[i]);
  const auto text = [](const char* from) { return std::string(from == nullptr ? "" : from); };
  if (UserFunctions user{text(desc.score_glsl), text(desc.mask_glsl), {}, context.glsl};
      !user.score.empty() || !user.mask.empty())
    request.user = std::make_shared<const UserFunctions>(std::move(user));
  return request;
}

tessera_tensor describe(const OpOutput& output) {
  tessera_tensor out{};
  out.size = sizeof(out);
  out.name = output.name.c_str();
  out.type = output.type.c_str();
  out.shape = output.shape.data();
  out.dims = static_cast<uint32_t>(output.shape.size());
  out.bytes = output.bytes;
  return out;
}

}  // namespace tessera::api
