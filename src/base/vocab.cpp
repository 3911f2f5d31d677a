#include "base/vocab.h"

#include <utility>

namespace tessera {

VocabSpec VocabSpec::with_defaults(std::string model, std::string pre) {
  VocabSpec spec;
  spec.model = std::move(model);
  spec.pre = std::move(pre);
  if (spec.model == "llama") {
    spec.unk = 0;
    spec.bos = 1;
    spec.eos = 2;
    spec.add_bos = true;
  } else if (spec.model == "t5") {
    spec.pad = 0;
    spec.eos = 1;
    spec.unk = 2;
    spec.add_eos = true;
  } else if (spec.model == "bert") {
    spec.pad = 0;
    spec.unk = 100;
    spec.cls = 101;
    spec.sep = 102;
    spec.add_bos = spec.add_eos = true;
  } else if (spec.model == "gpt2") {
    spec.add_bos = spec.pre == "llama-bpe" || spec.pre == "llama3" || spec.pre == "llama-v3";
  }
  return spec;
}

}  // namespace tessera
