// A case as a program of one op: whole for the device, and a window of it, with the same numbers, that the
// reference gets through in a moment.
#pragma once

#include <memory>
#include <vector>

#include "bench/cases.h"
#include "graph/walker.h"

namespace tessera::bench {

// Rows [row, row+rows) of the output and, of a matmul, columns [column, column+columns).
struct Window {
  std::uint32_t row = 0, rows = 0, column = 0, columns = 0;
};

struct OneOp {
  std::shared_ptr<const Program> program;
  struct Write {
    ValueId value = kNoValue;
    std::vector<std::byte> bytes;
  };
  std::vector<Write> writes;  // inputs, before the first run
  Write state;                // before every run: sample advances it
};

Window whole(const OpCase& c);
// Windows that together touch first, middle and last rows and columns.
std::vector<Window> samples(const OpCase& c);
OneOp build(const OpCase& c, const Window& window);

}  // namespace tessera::bench
