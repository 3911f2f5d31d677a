// The default pipelines: what the product makes for representative shapes of models, by its own choose_*
// functions. One list, for whoever asks what drivers make of the kernels.
#pragma once

#include <string>
#include <vector>

#include "kernels/choose.h"

namespace tessera {

struct Variant {
  std::string family;         // of choose_*: "matmul", "attention"
  std::string name;           // what tells it from the others of its family: "q8_0, 1 row"
  Result<Dispatch> dispatch;  // or why the device's limits refuse that shape
};

// Every module that the target may use appears: first what it would pick, then, for modules that only
// lesser devices pick, what it picks with capabilities switched off one after the other ("without ...").
std::vector<Variant> default_variants(const Target& target);

}  // namespace tessera
