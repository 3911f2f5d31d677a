#include <array>

#include "exercise.h"
#include "support/tiny_transformer.h"

// config.json, the two vocabularies and the weights' header, with a 0 between them.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tessera::test::TinyTransformer files;
  const std::array parts{&files.config, &files.source, &files.target, &files.header};
  const std::uint8_t* at = data;
  for (std::string* part : parts) {
    const std::uint8_t* end = part == parts.back() ? data + size : std::find(at, data + size, 0);
    part->assign(at, end);
    at = end == data + size ? end : end + 1;
  }
  if (const auto done = files.exercise(); !done.ok() && done.error().code != tessera::Code::invalid_argument)
    tessera::check_message(done.error());
  return 0;
}
