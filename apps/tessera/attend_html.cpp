#include <cmath>
#include <nlohmann/json.hpp>

#include "attend_figure.h"
#include "attend_page.h"

namespace tool {

tessera::Expected<tessera::Done> write_attention_html(const std::string& path, const AttentionView& view) {
  using Json = nlohmann::ordered_json;
  Json heads = Json::array(), colors = Json::array();
  for (const tessera::AttentionHead& head : view.attention.heads) {
    Json weights = Json::array();
    for (const float weight : head.weights) weights.push_back(std::round(weight * 1e5) / 1e5);
    heads.push_back({{"layer", head.layer}, {"head", head.head}, {"weights", std::move(weights)}});
  }
  for (const Rgb& color : attention_colors()) colors.push_back(color_name(color));
  const Json data{{"title", view.title()},     {"rows", view.row_labels},   {"keys", view.key_labels},
                  {"row_name", view.row_name}, {"key_name", view.key_name}, {"mean", view.mean},
                  {"top", view.top},           {"root", view.root},         {"colors", std::move(colors)},
                  {"heads", std::move(heads)}};
  std::string text = data.dump(-1, ' ', false, Json::error_handler_t::replace);
  // No end of a script within one.
  for (std::size_t at = 0; (at = text.find('<', at)) != std::string::npos;) text.replace(at, 1, "\\u003c");
  std::string page = kAttendPage;
  const std::string_view place = "{DATA}";
  return write_file(path, page.replace(page.find(place), place.size(), text));
}

}  // namespace tool
