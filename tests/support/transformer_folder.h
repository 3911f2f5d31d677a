// Encoder-decoders as folders: tests/data/transformer, or TESSERA_MODELS.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "formats/model_folder.h"
#include "models/transformer.h"
#include "text/token_list.h"

namespace tessera::test {

inline std::string transformer_dir(const std::string& name) {
  return std::string(TESSERA_SOURCE_DIR) + "/tests/data/transformer/" + name;
}

inline nlohmann::json read_json(const std::string& path) {
  std::ifstream in(path);
  EXPECT_TRUE(in) << path;
  return nlohmann::json::parse(in);
}

// The value, or a failed test and a default.
template <typename T>
T must(Result<T> result) {
  if (result.ok()) return *std::move(result);
  ADD_FAILURE() << result.error().message;
  return T{};
}

struct TransformerFolder {
  TransformerConfig config;
  TokenList source, target;
  std::shared_ptr<const ModelFile> weights;

  explicit TransformerFolder(const std::string& path) {
    const ModelFolder folder = must(ModelFolder::open(path));
    config = must(read_transformer_config(*must(folder.file("config.json"))));
    source = vocabulary(folder, config.source_vocabulary);
    target = vocabulary(folder, config.target_vocabulary);
    weights = std::make_shared<const ModelFile>(must(ModelFile::open(must(folder.only(".safetensors")))));
    for (auto [list, tensor] :
         {std::pair(&source, "encoder/embeddings/weight"), std::pair(&target, "decoder/embeddings/weight")})
      EXPECT_TRUE(list->fit(must(weights->require(tensor))->shape[0]).ok()) << list->name();
  }

  TransformerProgram build(const TransformerOptions& options) const {
    return must(build_transformer(weights, config, options));
  }

 private:
  static TokenList vocabulary(const ModelFolder& folder, const std::string& name) {
    return must(TokenList::parse(must(read_all(*must(folder.file(name)), 1 << 20)), name));
  }
};

}  // namespace tessera::test
