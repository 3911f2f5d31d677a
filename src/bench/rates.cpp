#include "bench/rates.h"

#include <map>

#include "kernels/choose.h"

namespace tessera::bench {
namespace {

OpCase attention_case(std::uint32_t heads, std::uint32_t rows, std::uint32_t keys) {
  OpCase c{.kind = OpKind::attention,
           .rows = rows,
           .heads = heads,
           .kv_heads = 8,
           .head_dim = 64,
           .keys = keys,
           .causal = true,
           .precision = Precision::mixed};
  c.name = "attention/d64/h" + std::to_string(heads) + "kv8/" + std::to_string(rows) + "x" +
           std::to_string(keys) + "/causal";
  return c;
}

OpCase matmul_case(std::uint32_t rows, std::uint32_t n, std::uint32_t k) {
  OpCase c{.kind = OpKind::matmul,
           .rows = rows,
           .dim = k,
           .n = n,
           .type = DType::q8_0,
           .precision = Precision::mixed};
  c.name = "matmul/q8_0/" + std::to_string(n) + "x" + std::to_string(k) + "/n" + std::to_string(rows);
  return c;
}

}  // namespace

std::vector<OpCase> rate_shapes(OpKind kind, bool few_rows) {
  if (kind == OpKind::matmul && few_rows) return {matmul_case(8, 4096, 4096), matmul_case(8, 16384, 8192)};
  if (kind == OpKind::matmul)
    return {matmul_case(64, 2048, 2048), matmul_case(512, 4096, 4096), matmul_case(4096, 8192, 8192)};
  if (few_rows) return {attention_case(32, 1, 4096), attention_case(32, 1, 32768)};
  return {attention_case(8, 512, 512), attention_case(8, 2048, 2048), attention_case(8, 8192, 8192)};
}

Result<std::vector<FormTime>> measure_rates(Device& device, const OpOptions& options,
                                            const std::function<bool(const FormTime&)>& done) {
  std::vector<FormTime> out;
  std::map<std::pair<OpKind, bool>, std::vector<OpCase>> shapes;
  for (const std::string_view name : rate_names()) {
    const std::size_t slash = name.find('/');
    const std::pair choice{name.starts_with("matmul") ? OpKind::matmul : OpKind::attention,
                           slash != std::string_view::npos};
    const auto [found, first] = shapes.try_emplace(choice);
    std::vector<OpCase>& left = found->second;
    if (first) left = rate_shapes(choice.first, choice.second);
    OpOptions forced = options;
    forced.form = name.substr(0, slash);
    FormTime form{std::string(name), left.front(), {}};
    TSR_TRY(form.time, time_op(device, form.shape, forced));
    while (form.time.failed.empty() && left.size() > 1 && form.time.median_s < kLongEnough) {
      TSR_TRY(OpTime longer, time_op(device, left[1], forced));
      if (!longer.failed.empty() && !longer.wrong) break;  // too large for the device
      left.erase(left.begin());
      form.shape = left.front();
      form.time = std::move(longer);
    }
    if (form.time.failed.empty()) left.resize(1);
    out.push_back(std::move(form));
    if (!done(out.back())) return Error{Code::cancelled, "measuring was cancelled"};
  }
  return out;
}

}  // namespace tessera::bench
