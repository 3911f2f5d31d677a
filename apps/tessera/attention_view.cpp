#include "attention_view.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "../shared/characters.h"

namespace tool {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMostLabel = 16;   // characters
constexpr std::size_t kMostCells = 100;  // of a line of text

// Marks that stand on the letter before them; here there is none.
bool is_mark(char32_t c) {
  return (c >= 0x300 && c < 0x370) || (c >= 0x591 && c < 0x5be) || (c >= 0x610 && c < 0x61b) ||
         (c >= 0x64b && c < 0x660) || c == 0x670;
}

std::string symbol_of(char32_t c, std::string_view bytes) {
  char code[8];
  switch (c) {
    case ' ':
    case 0xa0: return "\u2423";
    case '\n': return "\u21b5";
    case '\t': return "\u21e5";
    default: break;
  }
  const bool control = c < 0x20 || (c >= 0x7f && c < 0xa0);
  if (c != kDamaged && !control) return (is_mark(c) ? "\u25cc" : "") + std::string(bytes);
  std::snprintf(code, sizeof(code), "<%02X>", static_cast<unsigned>(static_cast<unsigned char>(bytes[0])));
  return code;
}

std::size_t characters(std::string_view text) {
  std::size_t count = 0;
  for (; !text.empty(); ++count) next_character(text);
  return count;
}

Json tokens_json(const std::vector<tessera::AttentionToken>& tokens) {
  Json out = Json::array();
  for (const tessera::AttentionToken& token : tokens) out.push_back({{"id", token.id}, {"text", token.text}});
  return out;
}

// A heading of column numbers, a line a digit.
std::string heading(std::size_t columns, std::size_t step, std::size_t indent, std::size_t width) {
  std::string out;
  const std::size_t last = (columns - 1) * step;
  for (std::size_t power = last >= 100 ? 100 : last >= 10 ? 10 : 1; power != 0; power /= 10) {
    out += std::string(indent, ' ');
    for (std::size_t c = 0; c < columns; ++c) {
      const bool shown = power == 1 || c * step >= power;
      out += std::string(width - 1, ' ') + (shown ? std::to_string(c * step / power % 10) : " ");
    }
    out += "\n";
  }
  return out;
}

struct Shade {
  float least;
  const char* block;
};
constexpr Shade kShades[] = {
    {0.7f, "\u2588"}, {0.4f, "\u2593"}, {0.2f, "\u2592"}, {0.05f, "\u2591"}, {0, " "}};

const char* shade_of(float weight) {
  return std::ranges::find_if(kShades, [&](const Shade& s) { return weight >= s.least; })->block;
}

}  // namespace

std::string AttentionView::title() const { return model + ", " + kind; }

std::string AttentionView::name(const tessera::AttentionHead& head) const {
  const std::string layer = "layer " + std::to_string(head.layer);
  return mean ? layer + ", mean of heads" : layer + ", head " + std::to_string(head.head);
}

double tick_step(double top) { return top > 0.6 ? 0.2 : top > 0.25 ? 0.1 : top > 0.1 ? 0.05 : 0.02; }

double top_weight(const tessera::Attention& attention) {
  double most = 0;
  for (const tessera::AttentionHead& head : attention.heads)
    most = std::max<double>(most, *std::ranges::max_element(head.weights));
  const double step = tick_step(most);
  return std::clamp(std::ceil(most / step - 1e-3) * step, step, 1.0);
}

double AttentionView::darkness(double weight) const {
  const double part = std::clamp(weight / top, 0.0, 1.0);
  return root ? std::sqrt(part) : part;
}

std::string token_label(const tessera::AttentionToken& token) {
  if (token.text.empty()) return "#" + std::to_string(token.id);
  std::string out;
  std::string_view rest = token.text;
  for (std::size_t count = 1; !rest.empty(); ++count) {
    const std::string_view before = rest;
    const char32_t c = next_character(rest);
    if (count == kMostLabel && !rest.empty()) return out + "\u2026";
    out += symbol_of(c, before.substr(0, before.size() - rest.size()));
  }
  return out;
}

tessera::Attention mean_of_heads(const tessera::Attention& attention) {
  tessera::Attention out{attention.rows, attention.keys, {}};
  std::vector<float> heads;  // of each layer
  for (const tessera::AttentionHead& head : attention.heads) {
    if (out.heads.empty() || out.heads.back().layer != head.layer) {
      out.heads.push_back({head.layer, 0, std::vector<float>(head.weights.size())});
      heads.push_back(0);
    }
    ++heads.back();
    std::ranges::transform(head.weights, out.heads.back().weights, out.heads.back().weights.begin(),
                           std::plus());
  }
  for (std::size_t i = 0; i < out.heads.size(); ++i)
    for (float& weight : out.heads[i].weights) weight /= heads[i];
  return out;
}

Json attention_json(const AttentionView& view, const std::string& device) {
  const tessera::Attention& a = view.attention;
  Json heads = Json::array();
  for (const tessera::AttentionHead& head : a.heads) {
    Json rows = Json::array();
    for (std::size_t r = 0; r < a.rows.size(); ++r)
      rows.push_back(std::span(head.weights).subspan(r * a.keys.size(), a.keys.size()));
    heads.push_back({{"layer", head.layer},
                     {"head", view.mean ? Json("mean") : Json(head.head)},
                     {"weights", std::move(rows)}});
  }
  return {{"device", device},
          {"model", view.model},
          {"kind", view.kind},
          {"rows", tokens_json(a.rows)},
          {"keys", tokens_json(a.keys)},
          {"heads", std::move(heads)}};
}

std::string attention_text(const AttentionView& view) {
  const std::size_t rows = view.row_labels.size(), keys = view.key_labels.size();
  const std::size_t step = (std::max(rows, keys) + kMostCells - 1) / kMostCells;
  const std::size_t columns = (keys + step - 1) / step, width = columns <= kMostCells / 2 ? 2 : 1;
  std::size_t label_width = 0;
  for (const std::string& label : view.row_labels) label_width = std::max(label_width, characters(label));
  std::string out;
  for (const tessera::AttentionHead& head : view.attention.heads) {
    out += view.title() + ", " + view.name(head) + "\n";
    out += heading(columns, step, label_width + 6, width);
    for (std::size_t r = 0; r < rows; r += step) {
      char number[24];
      std::snprintf(number, sizeof(number), "%4zu ", r);
      out += number + std::string(label_width - characters(view.row_labels[r]), ' ') + view.row_labels[r] +
             "\u2502";
      for (std::size_t k = 0; k < keys; k += step) {
        float most = 0;
        for (std::size_t i = r; i < std::min(r + step, rows); ++i)
          for (std::size_t j = k; j < std::min(k + step, keys); ++j)
            most = std::max(most, head.weights[i * keys + j]);
        for (std::size_t i = 0; i < width; ++i) out += shade_of(most);
      }
      out += "\n";
    }
  }
  out += std::string(label_width + 6, ' ') + "\u2591 0.05  \u2592 0.2  \u2593 0.4  \u2588 0.7 and more";
  if (step > 1) out += "; of " + std::to_string(step) + " x " + std::to_string(step) + " weights the largest";
  return out + "\n";
}

tessera::Expected<tessera::Done> write_file(const std::string& path, const std::string& content) {
  std::ofstream out(path, std::ios::binary);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  if (!out.flush()) return tessera::Failure{TESSERA_IO, "'" + path + "' cannot be written"};
  return tessera::Done{};
}

}  // namespace tool
