// Compares text with a file of the repository. To write the files anew: TESSERA_UPDATE_GOLDENS=1 ctest ...
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace tessera::test {

// `path` is relative to the source tree: "tests/graph/golden/block.txt".
inline void expect_golden(const std::string& path, const std::string& text) {
  const std::filesystem::path file = std::filesystem::path(TESSERA_SOURCE_DIR) / path;
  if (std::getenv("TESSERA_UPDATE_GOLDENS")) {
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << text;
  }
  std::ifstream in(file, std::ios::binary);
  ASSERT_TRUE(in) << path << " is missing; TESSERA_UPDATE_GOLDENS=1 writes it";
  std::ostringstream golden;
  golden << in.rdbuf();
  EXPECT_EQ(golden.str(), text) << "differs from " << path << "; TESSERA_UPDATE_GOLDENS=1 writes it anew";
}

}  // namespace tessera::test
