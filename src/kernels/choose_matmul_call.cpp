// Which form of matmul a call gets. docs/kernels/matmul.md has the table.
#include <algorithm>
#include <numeric>

#include "kernels/forms.h"
#include "kernels/matmul_shape.h"

namespace tessera {
namespace {

template <auto choose>
Result<void> add_one(const MatmulShape& s, const Target& target, MatmulChoice& out) {
  TSR_TRY(Dispatch d, choose(s, target));
  out.dispatches.push_back(std::move(d));
  return {};
}

Result<void> add_dot(const MatmulShape& s, const Target& target, MatmulChoice& out) {
  TSR_TRY(out, choose_matmul_dot(s, target));
  return {};
}

using Form = FormOf<MatmulShape, MatmulChoice>;
// In the order of preference where nothing was measured. The scalar forms are choose_matmul's own business.
constexpr Form kForms[] = {{"matmul_coopmat2", &add_one<choose_matmul_coopmat2>, false, true},
                           {"matmul_coopmat", &add_one<choose_matmul_coopmat>, false, true},
                           {"matmul_dot", &add_dot},
                           {"matmul_scalar", &add_one<choose_matmul>}};
constexpr Form kFewRowsForms[] = {{"matmul_dot/few_rows", &add_dot},
                                  {"matmul_scalar/few_rows", &add_one<choose_matmul>}};

constexpr auto kRateNames = rate_names_of(kForms, kFewRowsForms);

constexpr const char* kTiers[] = {"matmul_coopmat2", "matmul_coopmat", "matmul_dot"};

constexpr const char* kFewRowsReason = "few rows: reading the weights decides";

bool has(std::span<const Form> forms, std::string_view form) {
  return std::ranges::any_of(forms, [&](const Form& f) { return f.name() == form; });
}

}  // namespace

std::span<const std::string_view> matmul_rate_names() { return kRateNames; }

Result<MatmulChoice> choose_matmul_call(const MatmulShape& s, const Target& target) {
  TSR_CHECK(check_matmul(s));
  MatmulChoice out;
  Target mine = target;
  if (!has(kForms, mine.form) && !has(kFewRowsForms, mine.form)) mine.form.clear();  // another op's
  if (info(s.type).block_elems == 1) mine.rates.list.clear();  // they are those of weights in blocks
  if (s.precision != Precision::mixed && mine.form.empty()) {
    for (const char* form : kTiers) out.refused.push_back({form, std::string(kNeedsMixed)});
    TSR_CHECK(add_one<choose_matmul>(s, mine, out));
    return out;
  }
  if (s.rows <= kMatmulFewRows) {
    if (!mine.form.empty() && !has(kFewRowsForms, mine.form)) return Error{Code::unsupported, kFewRowsReason};
    for (const char* form : {"matmul_coopmat2", "matmul_coopmat"})
      out.refused.push_back({form, kFewRowsReason});
    TSR_CHECK(choose_form(std::span<const Form>(kFewRowsForms), s, mine, out));
  } else {
    TSR_CHECK(choose_form(std::span<const Form>(kForms), s, mine, out));
  }
  return out;
}

Result<void> add_product(const MatmulShape& shape, const Target& target,
                         const std::array<OperandIndex, kMatmulOperands>& operands, AttentionChoice& out) {
  TSR_TRY(MatmulChoice choice, choose_matmul_call(shape, target));
  const auto first = static_cast<OperandIndex>(out.scratch.size());
  for (Dispatch& d : choice.dispatches) {
    if (d.operands.empty()) {
      d.operands.resize(kernel(d.kernel).binding_count);
      std::iota(d.operands.begin(), d.operands.end(), OperandIndex{0});
    }
    for (OperandIndex& operand : d.operands)
      if (operand < kMatmulOperands)
        operand = operands[operand];
      else if (operand >= kScratchOperand && operand < kParamsOperand)
        operand = static_cast<OperandIndex>(operand + first);
    out.dispatches.push_back(std::move(d));
  }
  out.scratch.insert(out.scratch.end(), choice.scratch.begin(), choice.scratch.end());
  for (Refusal& refusal : choice.refused)  // of products of one shape the same
    if (std::ranges::find(out.refused, refusal) == out.refused.end())
      out.refused.push_back(std::move(refusal));
  return {};
}

}  // namespace tessera
