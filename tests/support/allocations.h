// Counts what this test program allocates with new.
#pragma once

#include <cstddef>

namespace tessera::test {

void reset_peak();          // the peak becomes what is live now
std::size_t allocations();  // made by this thread so far
std::size_t peak_bytes();   // most bytes live at once since, over what was live then

}  // namespace tessera::test
