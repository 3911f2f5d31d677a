#include "bench/rates.h"

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

}  // namespace

std::vector<OpCase> rate_shapes(bool few_rows) {
  if (few_rows) return {attention_case(32, 1, 4096), attention_case(32, 1, 32768)};
  return {attention_case(8, 512, 512), attention_case(8, 2048, 2048), attention_case(8, 8192, 8192)};
}

Result<std::vector<FormTime>> measure_rates(Device& device, const OpOptions& options,
                                            const std::function<bool(const FormTime&)>& done) {
  std::vector<FormTime> out;
  std::vector<OpCase> shapes[] = {rate_shapes(false), rate_shapes(true)};
  for (const std::string_view name : rate_names()) {
    const std::size_t slash = name.find('/');
    std::vector<OpCase>& left = shapes[slash == std::string_view::npos ? 0 : 1];
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
