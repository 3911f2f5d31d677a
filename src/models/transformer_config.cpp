#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/attention.h"
#include "base/text.h"
#include "formats/model_folder.h"
#include "models/transformer.h"

namespace tessera {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxBytes = 1 << 16;
constexpr std::string_view kKeys[] = {"model_type",
                                      "name",
                                      "encoder_layers",
                                      "decoder_layers",
                                      "d_model",
                                      "heads",
                                      "ffn_dim",
                                      "activation",
                                      "norm",
                                      "layer_norm_eps",
                                      "positions",
                                      "position_layout",
                                      "position_start",
                                      "scale_embedding",
                                      "source_vocabulary",
                                      "target_vocabulary",
                                      "bos_id",
                                      "eos_id"};

class ConfigReader {
 public:
  ConfigReader(const ByteSource& file, const json& root) : file_(file), root_(root) {}

  Result<TransformerConfig> read() {
    TransformerConfig c;
    for (const auto& item : root_.items())
      if (std::ranges::find(kKeys, item.key()) == std::end(kKeys))
        return fail(Code::unsupported, quote(item.key()) + " is no key that Tessera knows");
    TSR_CHECK(choice("model_type", {"transformer"}));
    TSR_CHECK(choice("positions", {"sinusoidal"}));
    TSR_TRY(c.encoder_layers, number("encoder_layers", 1, 1024));
    TSR_TRY(c.decoder_layers, number("decoder_layers", 1, 1024));
    TSR_TRY(c.dim, number("d_model", 1, 1 << 16));
    TSR_TRY(c.heads, number("heads", 1, 1 << 16));
    TSR_TRY(c.ffn_dim, number("ffn_dim", 1, 1 << 20));
    TSR_TRY(c.eps, eps());
    TSR_TRY(const std::size_t norm, choice("norm", {"pre", "post"}));
    c.pre_norm = norm == 0;
    TSR_TRY(const std::size_t layout, choice("position_layout", {"interleaved", "sin_half_cos_half"}));
    c.position_layout = layout == 0 ? PositionLayout::interleaved : PositionLayout::halves;
    constexpr std::array kActivations{Activation::relu, Activation::gelu_erf, Activation::gelu_tanh,
                                      Activation::silu};
    TSR_TRY(const std::size_t act, choice("activation", {"relu", "gelu", "gelu_tanh", "silu"}));
    c.activation = kActivations[act];
    TSR_TRY(c.position_start, number("position_start", 0, 1 << 20));
    TSR_TRY(c.scale_embedding, boolean("scale_embedding"));
    TSR_TRY(c.bos, number("bos_id", 0, kMaxId));
    TSR_TRY(c.eos, number("eos_id", 0, kMaxId));
    TSR_TRY(c.source_vocabulary, file_name("source_vocabulary"));
    TSR_TRY(c.target_vocabulary, file_name("target_vocabulary"));
    TSR_CHECK(fits(c));
    return c;
  }

 private:
  static constexpr std::uint32_t kMaxId = std::numeric_limits<std::uint32_t>::max() - 1;

  Error fail(Code code, const std::string& what) const {
    return Error{code, quote(file_.name(), kMaxQuotedPath) + ": " + what};
  }
  Error wrong(const std::string& key, const std::string& wanted, Code code = Code::bad_model) const {
    const std::string value = root_[key].dump(-1, ' ', true, json::error_handler_t::replace);
    return fail(code, quote(key) + " is " + quote(value, 40) + ", but must be " + wanted);
  }
  Result<const json*> get(const std::string& key) const {
    if (const auto at = root_.find(key); at != root_.end()) return &*at;
    return fail(Code::bad_model, "key " + quote(key) + " is missing");
  }

  Result<std::uint32_t> number(const std::string& key, std::uint32_t least, std::uint32_t most) const {
    TSR_TRY(const json* value, get(key));
    if (value->is_number_unsigned() && *value >= least && *value <= most) return value->get<std::uint32_t>();
    return wrong(key, "a whole number from " + std::to_string(least) + " to " + std::to_string(most));
  }
  Result<bool> boolean(const std::string& key) const {
    TSR_TRY(const json* value, get(key));
    if (value->is_boolean()) return value->get<bool>();
    return wrong(key, "true or false");
  }
  Result<float> eps() const {
    TSR_TRY(const json* value, get("layer_norm_eps"));
    if (value->is_number() && *value >= 0 && *value <= 1) return value->get<float>();
    return wrong("layer_norm_eps", "a number from 0 to 1");
  }
  Result<std::size_t> choice(const std::string& key, std::initializer_list<const char*> choices) const {
    TSR_TRY(const json* value, get(key));
    std::string all;
    for (std::size_t i = 0; i < choices.size(); ++i) {
      const char* name = choices.begin()[i];
      if (value->is_string() && *value == name) return i;
      all += (i ? i + 1 == choices.size() ? " or " : ", " : "") + quote(name);
    }
    return wrong(key, all, value->is_string() ? Code::unsupported : Code::bad_model);
  }
  Result<std::string> file_name(const std::string& key) const {
    TSR_TRY(const json* value, get(key));
    if (value->is_string()) {
      std::string name = value->get<std::string>();
      if (!name.empty() && name != "." && name != ".." &&
          name.find_first_of(std::string_view("/\\:\0", 4)) == std::string::npos)
        return name;
    }
    return wrong(key, "the name of a file in the same folder");
  }

  Result<void> fits(const TransformerConfig& c) const {
    if (c.dim % c.heads != 0) return wrong("heads", "a divisor of \"d_model\", " + std::to_string(c.dim));
    if (c.dim / c.heads > kMaxHeadDim)
      return wrong("heads", "at least " + std::to_string((c.dim + kMaxHeadDim - 1) / kMaxHeadDim) +
                                ", so that a head has at most " + std::to_string(kMaxHeadDim) + " elements");
    if (c.dim % 2 != 0 || c.dim < 4) return wrong("d_model", "even and at least 4, for sinusoidal positions");
    if (c.bos == c.eos) return wrong("eos_id", "another id than \"bos_id\"");
    return {};
  }

  const ByteSource& file_;
  const json& root_;
};

}  // namespace

Result<TransformerConfig> read_transformer_config(const ByteSource& file) {
  TSR_TRY(const std::string text, read_all(file, kMaxBytes));
  const json root = json::parse(text, nullptr, false);
  if (root.is_discarded()) return Error{Code::bad_model, quote(file.name(), kMaxQuotedPath) + " is not JSON"};
  if (!root.is_object())
    return Error{Code::bad_model, quote(file.name(), kMaxQuotedPath) + " is JSON, but no object"};
  return ConfigReader(file, root).read();
}

std::vector<float> sinusoids(const TransformerConfig& config, std::uint32_t rows) {
  const std::uint32_t half = config.dim / 2;
  const bool halves = config.position_layout == PositionLayout::halves;
  const double steps = halves ? half - 1.0 : half;
  std::vector<float> out(std::size_t{rows} * config.dim);
  for (std::uint32_t row = 0; row < rows; ++row)
    for (std::uint32_t i = 0; i < half; ++i) {
      const double angle =
          static_cast<double>(std::uint64_t{config.position_start} + row) * std::pow(10000.0, -(i / steps));
      float* at = out.data() + std::size_t{row} * config.dim;
      at[halves ? i : 2 * i] = static_cast<float>(std::sin(angle));
      at[halves ? half + i : 2 * i + 1] = static_cast<float>(std::cos(angle));
    }
  return out;
}

}  // namespace tessera
