// The choice between the forms of a kernel: the first that can, or of those that were measured the fastest.
#pragma once

#include <algorithm>
#include <array>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/choose.h"

namespace tessera {

// Choice has dispatches, scratch and refused, as AttentionChoice.
template <typename Shape, typename Choice>
struct FormOf {
  std::string_view rate_name;  // the form's name, with "/few_rows" behind it in the list for few rows
  Result<void> (*choose)(const Shape&, const Target&, Choice&);
  bool software_only = false;  // nobody asks why others do not get it
  bool matrix_units = false;   // on a software driver, which has none, after the others
  std::string_view name() const { return rate_name.substr(0, rate_name.find('/')); }
};

template <typename Shape, typename Choice, std::size_t many, std::size_t few>
constexpr std::array<std::string_view, many + few> rate_names_of(
    const FormOf<Shape, Choice> (&forms)[many], const FormOf<Shape, Choice> (&few_rows)[few]) {
  std::array<std::string_view, many + few> names{};
  std::size_t n = 0;
  for (const auto& form : forms) names[n++] = form.rate_name;
  for (const auto& form : few_rows) names[n++] = form.rate_name;
  return names;
}

template <typename Choice>
struct Offer {
  std::string_view name;
  std::string cannot;  // why; empty: it can
  Choice choice;
  double rate = 0;
};

// Those that may be asked for, up to one that nothing measured can displace.
template <typename Shape, typename Choice>
std::vector<Offer<Choice>> offers_of(std::span<const FormOf<Shape, Choice>> all, const Shape& s,
                                     const Target& target) {
  using Form = FormOf<Shape, Choice>;
  std::vector<Form> forms(all.begin(), all.end());
  if (target.caps.software)
    std::stable_partition(forms.begin(), forms.end(), [](const Form& form) { return !form.matrix_units; });
  std::vector<Offer<Choice>> out;
  for (const Form& form : forms) {
    if (target.form.empty() ? form.software_only && !target.caps.software : form.name() != target.form)
      continue;
    out.push_back({form.name(), {}, {}, target.rates.of(form.rate_name)});
    Offer<Choice>& offer = out.back();
    const Result<void> can = form.choose(s, target, offer.choice);
    if (!can.ok()) offer.cannot = can.error().message;
    const bool first = std::ranges::count(out, "", &Offer<Choice>::cannot) == 1;
    if (offer.cannot.empty() && first && offer.rate == 0) break;
  }
  return out;
}

inline std::string gflops(double rate) {
  char text[32];
  std::snprintf(text, sizeof(text), rate < 10e9 ? "%.2g" : "%.0f", rate * 1e-9);
  return text;
}

// Why `other` was not taken; empty where nobody would ask.
template <typename Choice>
std::string why_not(const Offer<Choice>& other, const Offer<Choice>& chosen, bool preferred) {
  const std::string at = std::string(chosen.name) + " at " + gflops(chosen.rate);
  if (!other.cannot.empty()) return preferred ? other.cannot : "";
  if (other.rate > 0) return "measured at " + gflops(other.rate) + " GFLOP/s on this device, " + at;
  return preferred ? "not measured on this device, where " + at + " GFLOP/s was fastest" : "";
}

template <typename Shape, typename Choice>
Result<void> choose_form(std::span<const FormOf<Shape, Choice>> forms, const Shape& s, const Target& target,
                         Choice& out) {
  std::vector<Offer<Choice>> offers = offers_of(forms, s, target);
  Offer<Choice>* chosen = nullptr;
  for (Offer<Choice>& offer : offers)
    if (offer.cannot.empty() && (chosen == nullptr || offer.rate > chosen->rate)) chosen = &offer;
  if (offers.empty()) return Error{Code::invalid_argument, describe(s) + ": no form '" + target.form + "'"};
  if (chosen == nullptr) return Error{Code::unsupported, offers.back().cannot};
  for (const Offer<Choice>& offer : offers) {
    if (&offer == chosen) continue;
    if (std::string why = why_not(offer, *chosen, &offer < chosen); !why.empty())
      out.refused.push_back({std::string(offer.name), std::move(why)});
  }
  if (target.caps.software && target.form.empty())
    for (const auto& form : forms)
      if (form.matrix_units && std::ranges::count(offers, form.name(), &Offer<Choice>::name) == 0)
        out.refused.push_back({std::string(form.name()), "a software driver has no matrix units"});
  out.dispatches = std::move(chosen->choice.dispatches);
  out.scratch = std::move(chosen->choice.scratch);
  return {};
}

}  // namespace tessera
