#include "kernels/choose.h"

namespace tessera {

std::span<const std::string_view> rate_names() {
  static const std::vector<std::string_view> kAll = [] {
    std::vector<std::string_view> names;
    for (const auto of : {attention_rate_names(), matmul_rate_names()})
      names.insert(names.end(), of.begin(), of.end());
    return names;
  }();
  return kAll;
}

}  // namespace tessera
