// Encoder-decoders as folders: tests/data/transformer, or TESSERA_MODELS.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "support/must.h"
#include "support/open_transformer.h"

namespace tessera::test {

inline std::string transformer_dir(const std::string& name) {
  return std::string(TESSERA_SOURCE_DIR) + "/tests/data/transformer/" + name;
}

inline nlohmann::json read_json(const std::string& path) {
  std::ifstream in(path);
  EXPECT_TRUE(in) << path;
  return nlohmann::json::parse(in);
}

inline TransformerFiles transformer_files(const std::string& path) {
  return must(open_transformer(must(ModelFolder::open(path))));
}

}  // namespace tessera::test
