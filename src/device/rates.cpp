#include "device/rates.h"

#include <charconv>
#include <cstdio>

#include "base/text.h"

namespace tessera {

double MeasuredRates::of(std::string_view form) const {
  for (const MeasuredRate& rate : list)
    if (rate.form == form) return rate.flops_per_s;
  return 0;
}

Result<MeasuredRate> parse_rate(std::string_view text) {
  const auto bad = [&](const std::string& why) {
    return Error{Code::invalid_argument, "measured rate " + quote(text) + ": " + why};
  };
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) return bad("expected form=GFLOP/s");
  const std::string_view number = text.substr(equals + 1);
  double gflops = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), gflops);
  if (error != std::errc{} || end != number.data() + number.size() || !(gflops >= 0 && gflops <= 1e9))
    return bad("the rate must be a number of GFLOP/s from 0 to 1e9");
  return MeasuredRate{std::string(text.substr(0, equals)), gflops * 1e9};
}

std::string print(const MeasuredRate& rate) {
  char number[32];
  std::snprintf(number, sizeof(number), "%.4g", rate.flops_per_s * 1e-9);
  return rate.form + "=" + number;
}

}  // namespace tessera
