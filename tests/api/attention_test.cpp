// Attention weights of models and translators through the public headers.
#include <fstream>
#include <nlohmann/json.hpp>

#include "api/api_fixture.h"
#include "tessera/tessera_tools.hpp"

namespace tessera::test {
namespace {

const std::string kFolder = TESSERA_SOURCE_DIR "/tests/data/transformer/post";

class AttentionTest : public OnBoth {
 protected:
  static tessera_attention_desc desc(tessera_attention_kind kind = TESSERA_ATTENTION_DECODER) {
    auto d = init<tessera_attention_desc>();
    d.kind = kind;
    return d;
  }
  Translator translator(std::uint32_t beams = 1) {
    auto d = init<tessera_translator_desc>();
    d.path = kFolder.c_str();
    d.beams = beams;
    d.max_target = 14;
    return take(context().translator(d));
  }
};
TSR_ON_BOTH(AttentionTest);

// Each row is a softmax; causal: over itself and what is before it.
void expect_rows(const Attention& a, bool causal) {
  for (const AttentionHead& h : a.heads) {
    ASSERT_EQ(h.weights.size(), a.rows.size() * a.keys.size());
    for (std::size_t r = 0; r < a.rows.size(); ++r) {
      double sum = 0;
      for (std::size_t k = 0; k < a.keys.size(); ++k) {
        const float w = h.weights[r * a.keys.size() + k];
        sum += w;
        EXPECT_GE(w, 0);
        EXPECT_TRUE(w == 0 || !causal || k <= r) << "row " << r << " key " << k;
      }
      EXPECT_NEAR(sum, 1, 1e-5) << "layer " << h.layer << " head " << h.head << " row " << r;
    }
  }
}

TEST_P(AttentionTest, OfAModel) {
  const Model model = load();
  const Ids ids = take(model.tokenize(kPrompt));
  const Attention all = take(attention(model, ids, desc()));
  const std::uint32_t layers = model.info().layers;
  const std::size_t heads = all.heads.size() / layers;
  EXPECT_GT(heads, 1u);
  ASSERT_EQ(all.heads.size(), layers * heads);
  ASSERT_EQ(all.rows.size(), ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(all.rows[i].id, ids[i]);
  for (std::size_t i = 0; i < all.heads.size(); ++i) {
    EXPECT_EQ(all.heads[i].layer, i / heads);
    EXPECT_EQ(all.heads[i].head, i % heads);
  }
  expect_rows(all, true);

  tessera_attention_desc d = desc();
  d.layer = d.layers = 1;
  d.head = 1;
  d.heads = 2;
  const Attention some = take(attention(model, ids, d));
  ASSERT_EQ(some.heads.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(some.heads[i].weights, all.heads[heads + 1 + i].weights);
}

TEST_P(AttentionTest, OfLongAndShortTexts) {
  const Model model = load();
  for (const std::size_t n : {1u, 2u, 63u, 64u, 65u, 131u}) {
    Ids ids(n);
    for (std::size_t i = 0; i < n; ++i) ids[i] = static_cast<std::uint32_t>(7 * i % model.info().vocab);
    tessera_attention_desc d = desc();
    d.layers = 1;
    const Attention a = take(attention(model, ids, d));
    ASSERT_EQ(a.keys.size(), n);
    expect_rows(a, true);
  }
}

TEST_P(AttentionTest, OfATranslator) {
  Translator t = translator(4);
  const Translation best = take(t.translate("gacfg"));
  const Hypothesis& h = best.hypotheses[0];
  const Attention encoder = take(attention(t, "gacfg", desc(TESSERA_ATTENTION_ENCODER)));
  const Attention decoder = take(attention(t, "gacfg", desc()));
  const Attention cross = take(attention(t, "gacfg", desc(TESSERA_ATTENTION_CROSS)));
  expect_rows(encoder, false);
  expect_rows(decoder, true);
  expect_rows(cross, false);
  ASSERT_EQ(encoder.rows.size(), 5u);
  EXPECT_EQ(cross.keys.size(), 5u);
  EXPECT_EQ(cross.keys[0].text, "g");
  ASSERT_EQ(cross.rows.size(), h.ids.size() + h.finished);
  for (std::size_t i = 0; i < h.ids.size(); ++i) EXPECT_EQ(cross.rows[i].id, h.ids[i]);
  ASSERT_EQ(decoder.rows.size(), cross.rows.size());
  for (std::size_t i = 1; i < decoder.rows.size(); ++i) EXPECT_EQ(decoder.rows[i].id, h.ids[i - 1]);
  EXPECT_EQ(decoder.rows[0].text.front(), '<');

  tessera_attention_desc forced = desc(TESSERA_ATTENTION_CROSS);
  forced.target = "12";
  const Attention given = take(attention(t, "gacfg", forced));
  ASSERT_EQ(given.rows.size(), 3u);
  EXPECT_EQ(given.rows[0].text + given.rows[1].text, "12");
  expect_rows(given, false);
}

// What torch.nn computes in double.
TEST_P(AttentionTest, IsThatOfTorch) {
  for (const std::string name : {"pre", "post"}) {
    const std::string folder = TESSERA_SOURCE_DIR "/tests/data/transformer/" + name;
    std::ifstream in(folder + "/attention.json");
    const auto golden = nlohmann::json::parse(in);
    auto t = init<tessera_translator_desc>();
    t.path = folder.c_str();
    Translator translator = take(context().translator(t));
    const auto target = golden["target"].get<std::string>();
    for (const auto& [kind, key] :
         {std::pair(TESSERA_ATTENTION_ENCODER, "encoder"), std::pair(TESSERA_ATTENTION_DECODER, "decoder"),
          std::pair(TESSERA_ATTENTION_CROSS, "cross")}) {
      tessera_attention_desc d = desc(kind);
      d.target = target.c_str();
      const Attention found = take(attention(translator, golden["text"].get<std::string>(), d));
      ASSERT_EQ(found.heads.size(), golden[key].size() * golden[key][0].size());
      for (const AttentionHead& h : found.heads)
        for (std::size_t r = 0; r < found.rows.size(); ++r)
          for (std::size_t k = 0; k < found.keys.size(); ++k)
            EXPECT_NEAR(h.weights[r * found.keys.size() + k],
                        golden[key][h.layer][h.head][r][k].get<double>(), 2e-6)
                << name << " " << key << " layer " << h.layer << " head " << h.head << " " << r << ", " << k;
    }
  }
}

TEST_P(AttentionTest, WhatDoesNotFit) {
  const Model model = load();
  const Ids ids{1, 2, 3};
  const auto refused = [&](tessera_attention_desc d, const std::string& words) {
    expect_failure(attention(model, ids, d), TESSERA_INVALID_ARGUMENT, words);
  };
  tessera_attention_desc d = desc();
  d.layer = 99;
  refused(d, "layer 99: the model has");
  d = desc();
  d.heads = 99;
  refused(d, "99 heads from 0 on");
  d = desc(TESSERA_ATTENTION_CROSS);
  refused(d, "decoder-only");
  d = desc();
  d.precision = static_cast<tessera_precision>(7);
  refused(d, "precision 7");
  expect_failure(attention(model, Ids{}, desc()), TESSERA_INVALID_ARGUMENT, "no tokens");
  expect_failure(attention(model, Ids{1u << 30}, desc()), TESSERA_INVALID_ARGUMENT, "outside the vocabulary");
  expect_failure(attention(model, Ids(100'000, 1), desc()), TESSERA_INVALID_ARGUMENT, "context");
  expect_failure(attention(model, ids, desc(), [](auto, auto, auto) { return false; }), TESSERA_CANCELLED,
                 "");
  tessera_error error;
  EXPECT_EQ(tessera_model_attention(nullptr, ids.data(), 3, &d, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_EQ(tessera_model_attention(model.get(), nullptr, 3, &d, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_EQ(tessera_model_attention(model.get(), ids.data(), 3, nullptr, &error), TESSERA_INVALID_ARGUMENT);
  auto nobody = desc();
  nobody.layers = 1;
  EXPECT_EQ(tessera_model_attention(model.get(), ids.data(), 3, &nobody, &error), TESSERA_OK);
}

TEST_P(AttentionTest, WhatDoesNotFitATranslator) {
  Translator t = translator();
  const auto refused = [&](const char* text, tessera_attention_desc d, const std::string& words) {
    expect_failure(attention(t, text, d), TESSERA_INVALID_ARGUMENT, words);
  };
  refused("", desc(TESSERA_ATTENTION_ENCODER), "no tokens");
  refused("a?", desc(), "U+003F");
  refused("a", desc(static_cast<tessera_attention_kind>(3)), "kind 3");
  auto d = desc();
  d.target = "x";
  refused("a", d, "target.txt");
  d = desc();
  d.precision = TESSERA_PRECISION_MIXED;
  refused("a", d, "the translator's precision");
  d = desc(TESSERA_ATTENTION_ENCODER);
  d.head = 50;
  refused("a", d, "head 50");
  tessera_error error;
  EXPECT_EQ(tessera_translator_attention(nullptr, "a", 1, &d, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_EQ(tessera_translator_attention(t.get(), nullptr, 1, &d, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_EQ(tessera_translator_attention(t.get(), "a", 1, nullptr, &error), TESSERA_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace tessera::test
