#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace tessera {

// The words of a SPIR-V module that is plain or went through gzip. Error: it is neither, or damaged.
Result<std::vector<std::uint32_t>> module_words(std::span<const std::uint8_t> module);
// A text that went through gzip.
Result<std::string> module_text(std::span<const std::uint8_t> gzip);

}  // namespace tessera
