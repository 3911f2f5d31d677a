// Runs attention cases on the device of a test and compares all that they write.
#pragma once

#include "kernels/attention_case.h"
#include "support/gpu_fixture.h"
#include "support/sweep.h"

namespace tessera::test {

inline std::string describe(const AttentionCase& c) {
  const AttentionAttrs& a = c.shape.attrs;
  const AttentionOperands& o = c.shape.operands;
  std::string text;
  const auto put = [&](const char* name, double value) {
    text += std::string(text.empty() ? "" : " ") + name + " " + std::to_string(value).substr(0, 8);
  };
  put("seed", c.seed);
  put("batch", a.batch);
  put("rows", a.q_len);
  put("keys", a.kv_len);
  put("heads", a.heads);
  put("kv", a.kv_heads);
  put("d", a.head_dim);
  put("v", a.v_dim);
  put("causal", static_cast<int>(a.causal));
  if (a.window_left != kNoWindow) put("left", a.window_left);
  if (a.window_right != kNoWindow) put("right", a.window_right);
  if (a.softcap > 0) put("softcap", a.softcap);
  if (a.score == AttentionScore::cosine) put("cosine", 1);
  if (a.block_size != 0) put("block", a.block_size);
  if (a.ring) put("ring", 1);
  if (a.scores != AttentionScores::none) put("scores", static_cast<int>(a.scores));
  if (o.state) put("position", c.position), put("live", c.rows);
  if (o.lengths) put("lengths", c.lengths[0]);
  if (o.documents != 0) put("documents", o.documents);
  if (o.list_words != 0) put("q_block", a.q_block), put("k_block", a.k_block);
  if (o.list_words != 0) put("by_head", a.lists_by_head), put("by_batch", a.lists_by_batch);
  if (a.prefix_length != 0) put("prefix", a.prefix_length);
  if (o.prefixes) put("prefixes", c.prefixes[0]);
  if (a.relative != RelativeBias::none)
    put("relative", static_cast<int>(a.relative)), put("size", a.relative_size);
  if (a.top_k != 0) put("top_k", a.top_k);
  if (a.score == AttentionScore::additive) put("additive", 1);
  if (o.slopes) put("slopes", 1);
  if (o.sinks) put("sinks", 1);
  if (o.lse) put("lse", 1);
  for (const auto& [name, type] : {std::pair{"mask", o.mask}, std::pair{"bias", o.bias}})
    if (type) text += std::string(" ") + name + " " + std::string(info(*type).name);
  text += " q " + std::string(info(c.shape.q_type).name) + " kv " + std::string(info(c.shape.kv_type).name) +
          " y " + std::string(info(c.shape.y_type).name);
  return text;
}

class AttentionGpu : public GpuTest {
 protected:
  // Fills y, lse and scores of `a`.
  ::testing::AssertionResult run(Attention& a, std::uint32_t slices = 1) {
    Target target = target_of(*device_);
    target.caps.software = target.caps.software && software_;
    for (std::size_t i = 0; i < 3; ++i)
      target.limits.max_group_count[i] = std::min(target.limits.max_group_count[i], most_groups_[i]);
    const auto choice = choose_attention(a.c.shape, target);
    if (!choice) return ::testing::AssertionFailure() << choice.error().message;
    used_keys_ = std::ranges::count(choice->dispatches, KernelId::attention_keys, &Dispatch::kernel) != 0;
    return run_call(*device_, choice->dispatches, choice->scratch, a.operands(), slices);
  }

  // Where that was the form for software drivers, also the one for others.
  void check(const AttentionCase& c, std::uint32_t slices = 1) {
    check_form(c, slices);
    if (!used_keys_ || HasFatalFailure()) return;
    software_ = false;
    check_form(c, slices);
    software_ = true;
  }

  // Of many like it a share, where tests run slowly.
  void check_share(const AttentionCase& c) {
    if (sweep_.next()) check(c);
  }

  std::array<std::uint32_t, 3> most_groups_{65535, 65535, 65535};
  bool software_ = true;
  bool used_keys_ = false;  // by the latest run

 private:
  Sweep sweep_;

  void check_form(const AttentionCase& c, std::uint32_t slices) {
    Attention a(c);
    const std::string what = describe(a.c) + (software_ ? "" : " as for a GPU");
    ASSERT_TRUE(run(a, slices)) << what;
    const AttentionAttrs& s = a.c.shape.attrs;
    const std::vector<double> y = a.y_values();
    std::vector<bool> written(y.size(), false);
    for (std::uint32_t b = 0; b < s.batch; ++b)
      for (std::uint32_t h = 0; h < s.heads; ++h)
        for (std::uint32_t i = 0; i < a.c.n_q(); ++i) {
          const Attention::Row e = a.expected(b, h, i);
          const std::string row =
              what + ": [" + std::to_string(b) + "," + std::to_string(h) + "," + std::to_string(i) + "]";
          for (std::uint32_t d = 0; d < s.v_dim; ++d) {
            const std::uint64_t at = a.y_at(b, h, i, d);
            written[at] = true;
            ASSERT_LE(std::abs(y[at] - e.value[d]), e.bound[d])
                << row << ": y[" << d << "] is " << y[at] << ", not " << e.value[d];
          }
          ASSERT_NO_FATAL_FAILURE(check_outputs(a, e, b, h, i, row));
        }
    for (std::size_t at = 0; at < y.size(); ++at)
      ASSERT_TRUE(written[at] || std::isnan(y[at])) << what << ": y at " << at << " was touched";
  }

  static void expect_close(double value, double wanted, double bound, const std::string& what) {
    if (std::isinf(wanted))
      ASSERT_EQ(value, wanted) << what;
    else
      ASSERT_LE(std::abs(value - wanted), bound) << what << " is " << value << ", not " << wanted;
  }

  static Attention::Row average_of(const Attention& a, std::uint32_t b, std::uint32_t i) {
    const AttentionAttrs& s = a.c.shape.attrs;
    Attention::Row out;
    out.score.resize(s.kv_len);
    out.score_bound.resize(s.kv_len);
    for (std::uint32_t h = s.score_head; h < s.score_head + s.score_heads; ++h) {
      const Attention::Row of_head = a.expected(b, h, i);
      for (std::uint32_t j = 0; j < s.kv_len; ++j) {
        out.score[j] += of_head.score[j] / s.score_heads;
        out.score_bound[j] +=
            (of_head.score_bound[j] + (s.score_heads + 4) * 2 * kUnit * of_head.score[j]) / s.score_heads;
      }
    }
    return out;
  }

  static void check_outputs(const Attention& a, const Attention::Row& e, std::uint32_t b, std::uint32_t h,
                            std::uint32_t i, const std::string& row) {
    const AttentionAttrs& s = a.c.shape.attrs;
    if (a.c.shape.operands.lse) {
      float lse = 0;
      std::memcpy(&lse, a.lse.data() + ((std::size_t{b} * s.heads + h) * s.q_len + i) * 4, 4);
      ASSERT_NO_FATAL_FAILURE(expect_close(lse, e.lse, e.lse_bound, row + ": lse"));
    }
    if (s.scores == AttentionScores::none || h < s.score_head || h >= s.score_head + s.score_heads ||
        i < s.score_row || i >= s.score_row + s.score_rows)
      return;
    const std::uint32_t slots = score_slots(s), slot = (h - s.score_head) % slots;
    const std::size_t first = ((std::size_t{b} * slots + slot) * s.score_rows + i - s.score_row) * s.kv_len;
    const Attention::Row wanted = s.scores == AttentionScores::average ? average_of(a, b, i) : e;
    for (std::uint32_t j = 0; j < s.kv_len; ++j) {
      float score = 0;
      std::memcpy(&score, a.scores.data() + (first + j) * 4, 4);
      ASSERT_NO_FATAL_FAILURE(
          expect_close(score, wanted.score[j], wanted.score_bound[j], row + ": score " + std::to_string(j)));
    }
  }
};

}  // namespace tessera::test
