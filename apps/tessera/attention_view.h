// Attention weights as `tessera attend` shows them: labels, titles, and every form of output.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tessera/tessera_tools.hpp"

namespace tool {

struct AttentionView {
  tessera::Attention attention;
  std::vector<std::string> row_labels, key_labels;  // as they are drawn
  std::string model;                                // its name
  std::string kind;                                 // "cross-attention"
  std::string row_name, key_name;                   // "target", "source"
  bool mean = false;                                // a head of each layer, which is the mean of its heads
  double top = 1;                                   // weight of the darkest colour
  bool root = false;                                // colours by the square root of the weight

  std::string title() const;                                   // "tessera-tiny, cross-attention"
  std::string name(const tessera::AttentionHead& head) const;  // "layer 0, head 3"
  double darkness(double weight) const;                        // 0 to 1
};

// A token's bytes as a label: whitespace and control characters as symbols, bytes that are no character as
// <E2>, and at most 16 characters.
std::string token_label(const tessera::AttentionToken& token);

// The largest weight, rounded up to where the colour bar has a tick: at multiples of tick_step.
double top_weight(const tessera::Attention& attention);
double tick_step(double top);

// One head in place of the heads of each layer.
tessera::Attention mean_of_heads(const tessera::Attention& attention);

nlohmann::ordered_json attention_json(const AttentionView& view, const std::string& device);
// Shades of grey, a row of text a row.
std::string attention_text(const AttentionView& view);

// Each writes a file.
tessera::Expected<tessera::Done> write_attention_svg(const std::string& path, const AttentionView& view);
tessera::Expected<tessera::Done> write_attention_html(const std::string& path, const AttentionView& view);
// `font` may be empty: the one that was there when this program was built.
tessera::Expected<tessera::Done> write_attention_png(const std::string& path, const AttentionView& view,
                                                     const std::string& font);

// The whole of it, or an error that names the path.
tessera::Expected<tessera::Done> write_file(const std::string& path, const std::string& content);

}  // namespace tool
