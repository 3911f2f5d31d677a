// An encoder-decoder's files, opened; without GoogleTest, for the fuzz targets too.
#pragma once

#include <utility>

#include "formats/model_folder.h"
#include "models/transformer.h"
#include "text/token_list.h"

namespace tessera::test {

struct TransformerFiles {
  TransformerConfig config;
  TokenList source, target;
  std::shared_ptr<const ModelFile> weights;

  Result<TransformerProgram> build(const TransformerOptions& options) {
    TSR_TRY(TransformerProgram t, build_transformer(weights, config, options));
    TSR_CHECK(source.fit(t.source_vocab));
    TSR_CHECK(target.fit(t.target_vocab));
    return t;
  }
};

inline Result<TokenList> open_vocabulary(const ModelFolder& folder, const std::string& name) {
  TSR_TRY(const auto file, folder.file(name));
  TSR_TRY(const std::string text, read_all(*file, 1 << 20));
  return TokenList::parse(text, name);
}

inline Result<TransformerFiles> open_transformer(const ModelFolder& folder) {
  TransformerFiles files;
  TSR_TRY(const auto config, folder.file("config.json"));
  TSR_TRY(files.config, read_transformer_config(*config));
  TSR_TRY(files.source, open_vocabulary(folder, files.config.source_vocabulary));
  TSR_TRY(files.target, open_vocabulary(folder, files.config.target_vocabulary));
  TSR_TRY(auto weights, folder.only(".safetensors"));
  TSR_TRY(ModelFile file, ModelFile::open(std::move(weights)));
  files.weights = std::make_shared<const ModelFile>(std::move(file));
  return files;
}

}  // namespace tessera::test
