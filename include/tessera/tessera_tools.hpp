// C++20 over what the tools call in tessera_tools.h: UNSTABLE, like that.
#ifndef TESSERA_TOOLS_HPP
#define TESSERA_TOOLS_HPP

#include "tessera.hpp"
#include "tessera_tools.h"

namespace tessera {

struct AttentionToken {
  std::uint32_t id = 0;
  std::string text;  // bytes, as tessera_token_piece gives them
};
struct AttentionHead {
  std::uint32_t layer = 0, head = 0;  // from 0
  std::vector<float> weights;         // (rows, keys)
};
struct Attention {
  std::vector<AttentionToken> rows, keys;
  std::vector<AttentionHead> heads;  // layers in order, of each its heads
};

namespace detail {

inline void to_attention(void* user, const tessera_attention_map* map) {
  Attention& out = *static_cast<Attention*>(user);
  if (out.heads.empty()) {
    for (std::uint32_t i = 0; i < map->rows; ++i) out.rows.push_back({map->row_ids[i], map->row_texts[i]});
    for (std::uint32_t i = 0; i < map->keys; ++i) out.keys.push_back({map->key_ids[i], map->key_texts[i]});
  }
  const std::size_t size = std::size_t{map->rows} * map->keys;
  out.heads.push_back({map->layer, map->head, {map->weights, map->weights + size}});
}

template <typename Call>
Expected<Attention> attention(tessera_attention_desc& desc, ProgressFn& progress, const Call& call) {
  Attention out;
  desc.map = to_attention;
  desc.user = &out;
  if (progress) {
    desc.progress = detail::progress;
    desc.progress_user = &progress;
  }
  tessera_error error;
  if (call(desc, &error) != TESSERA_OK) return failure(error);
  return out;
}

}  // namespace detail

// desc.map and desc.user are replaced; desc.progress too when `progress` is given.
inline Expected<Attention> attention(const Model& model, std::span<const std::uint32_t> ids,
                                     tessera_attention_desc desc, ProgressFn progress = {}) {
  return detail::attention(desc, progress, [&](const tessera_attention_desc& d, tessera_error* error) {
    return tessera_model_attention(model.get(), ids.data(), ids.size(), &d, error);
  });
}
inline Expected<Attention> attention(const Translator& translator, std::string_view text,
                                     tessera_attention_desc desc, ProgressFn progress = {}) {
  return detail::attention(desc, progress, [&](const tessera_attention_desc& d, tessera_error* error) {
    return tessera_translator_attention(translator.get(), text.data(), text.size(), &d, error);
  });
}

}  // namespace tessera

#endif
