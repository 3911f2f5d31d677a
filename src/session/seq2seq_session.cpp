#include "session/seq2seq_session.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "session/walker_io.h"

namespace tessera {
namespace {

// In place: logits of one row to natural log-probabilities. False when they have none.
bool log_softmax(std::span<double> row) {
  const double most = *std::ranges::max_element(row);
  double sum = 0;
  for (const double x : row) sum += std::exp(x - most);
  if (!std::isfinite(sum)) return false;  // a NaN, +infinity, or nothing above -infinity
  const double log_sum = most + std::log(sum);
  for (double& x : row) x -= log_sum;
  return true;
}

bool better(const Hypothesis& a, const Hypothesis& b) { return a.score > b.score; }

Result<void> check_ids(std::span<const TokenId> ids, std::uint32_t vocab, const char* what) {
  for (const TokenId id : ids)
    if (id >= vocab)
      return Error{Code::invalid_argument, std::string(what) + " id " + std::to_string(id) +
                                               " is outside the vocabulary of " + std::to_string(vocab)};
  return {};
}

}  // namespace

Seq2SeqSession::Seq2SeqSession(std::unique_ptr<Walker> walker, TransformerProgram transformer,
                               Progress progress)
    : walker_(std::move(walker)), t_(std::move(transformer)), progress_(std::move(progress)) {}

Result<void> Seq2SeqSession::check(std::span<const TokenId> source, const TranslateOptions& options) const {
  const auto fail = [](const std::string& what) { return Error{Code::invalid_argument, what}; };
  if (source.empty()) return fail("the source has no tokens");
  if (source.size() > t_.max_source)
    return fail("the source has " + std::to_string(source.size()) + " tokens; at most " +
                std::to_string(t_.max_source) + " fit");
  if (options.beams == 0 || options.beams > t_.beams)
    return fail(std::to_string(options.beams) + " beams, but this session was made for 1 to " +
                std::to_string(t_.beams));
  if (options.max_tokens > t_.max_target)
    return fail("max_tokens is " + std::to_string(options.max_tokens) + "; at most " +
                std::to_string(t_.max_target) + " fit");
  const std::uint32_t most = options.max_tokens ? options.max_tokens : t_.max_target;
  if (options.prefix.size() > most)
    return fail("the prefix has " + std::to_string(options.prefix.size()) + " tokens, more than the " +
                std::to_string(most) + " of a target");
  TSR_CHECK(check_ids(source, t_.source_vocab, "source"));
  return check_ids(options.prefix, t_.target_vocab, "prefix");
}

Result<void> Seq2SeqSession::encode(std::span<const TokenId> source) {
  const auto rows = static_cast<std::uint32_t>(source.size());
  TSR_CHECK(write_items(*walker_, t_.source, source));
  TSR_CHECK(write_state(*walker_, t_.state, {.position = 0, .rows = rows}));
  TSR_CHECK(walker_->run(t_.encode));
  const std::vector<std::uint32_t> lengths(t_.beams, rows);
  return write_items<std::uint32_t>(*walker_, t_.lengths, lengths);
}

Result<std::vector<double>> Seq2SeqSession::step(std::vector<Beam>& beams) {
  const auto position = static_cast<std::uint32_t>(beams[0].ids.size() - 1);
  // Rows without a beam repeat the first one, into blocks of their own.
  std::vector<TokenId> tokens(t_.beams);
  std::vector<std::uint32_t> table(std::size_t{t_.beams} * t_.max_target, 0);
  for (std::uint32_t row = 0; row < t_.beams; ++row) {
    Beam& beam = beams[row < beams.size() ? row : 0];
    tokens[row] = beam.ids.back();
    const auto at = table.begin() + static_cast<std::ptrdiff_t>(std::size_t{row} * t_.max_target);
    std::ranges::copy(std::span(beam.blocks).first(position), at);
    at[position] = position * t_.beams + row;
  }
  for (std::uint32_t row = 0; row < beams.size(); ++row)
    beams[row].blocks.push_back(position * t_.beams + row);
  TSR_CHECK(write_items<TokenId>(*walker_, t_.target, tokens));
  TSR_CHECK(write_items<std::uint32_t>(*walker_, t_.table, table));
  TSR_CHECK(write_state(*walker_, t_.state, {.position = position, .rows = 1}));
  TSR_CHECK(walker_->run(t_.decode));

  std::vector<float> logits(beams.size() * t_.target_vocab);
  TSR_CHECK(walker_->read(t_.logits, 0, std::as_writable_bytes(std::span(logits))));
  std::vector<double> log_probs(logits.begin(), logits.end());
  for (std::size_t row = 0; row < beams.size(); ++row)
    if (!log_softmax(std::span(log_probs).subspan(row * t_.target_vocab, t_.target_vocab)))
      return Error{Code::numeric, "the logits of target position " + std::to_string(position) +
                                      " hold a NaN or +infinity: no token can be chosen"};
  return log_probs;
}

std::vector<Seq2SeqSession::Extension> Seq2SeqSession::best(const std::vector<Beam>& beams,
                                                            std::span<const double> log_probs,
                                                            std::size_t count) const {
  std::vector<Extension> all;
  all.reserve(log_probs.size());
  for (std::uint32_t b = 0; b < beams.size(); ++b)
    for (TokenId id = 0; id < t_.target_vocab; ++id)
      all.push_back({beams[b].score + log_probs[std::size_t{b} * t_.target_vocab + id], b, id});
  count = std::min(count, all.size());
  std::ranges::partial_sort(
      all, all.begin() + static_cast<std::ptrdiff_t>(count), [](const Extension& a, const Extension& b) {
        return a.score != b.score ? a.score > b.score : std::pair(a.beam, a.id) < std::pair(b.beam, b.id);
      });
  all.resize(count);
  return all;
}

Result<std::vector<Hypothesis>> Seq2SeqSession::translate(std::span<const TokenId> source,
                                                          const TranslateOptions& options) {
  TSR_CHECK(check(source, options));
  TSR_CHECK(encode(source));
  const std::size_t most = options.max_tokens ? options.max_tokens : t_.max_target;
  std::vector<Beam> beams(1);
  beams[0].ids = {t_.config.bos};
  for (const TokenId id : options.prefix) {
    TSR_TRY(const std::vector<double> log_probs, step(beams));
    beams[0].score += log_probs[id];
    beams[0].ids.push_back(id);
  }

  std::vector<Hypothesis> finished;  // the best first
  const auto text = [](const Beam& beam) { return std::vector(beam.ids.begin() + 1, beam.ids.end()); };
  while (!beams.empty() && beams[0].ids.size() <= most) {
    if (!report(progress_, "translate", beams[0].ids.size() - 1, most))
      return Error{Code::cancelled, "cancelled during a translation"};
    TSR_TRY(const std::vector<double> log_probs, step(beams));
    // One extension of each beam is by EOS: twice the beams leave enough others.
    const std::vector<Extension> extensions = best(beams, log_probs, 2 * std::size_t{options.beams});
    std::vector<Beam> next;
    for (std::size_t rank = 0; rank < extensions.size() && next.size() < options.beams; ++rank) {
      const Extension& e = extensions[rank];
      const Beam& from = beams[e.beam];
      if (e.id != t_.config.eos) {
        next.push_back({from.ids, e.score, from.blocks});
        next.back().ids.push_back(e.id);
      } else if (rank < options.beams) {
        finished.push_back({text(from), e.score, true});
      }
    }
    beams = std::move(next);
    std::ranges::stable_sort(finished, better);
    finished.resize(std::min<std::size_t>(finished.size(), options.beams));
    // Probabilities are at most 1: what goes on cannot gain.
    if (finished.size() == options.beams && beams[0].score <= finished.back().score) break;
  }
  for (const Beam& beam : beams) finished.push_back({text(beam), beam.score, false});
  if (finished.size() > options.beams) finished.resize(options.beams);
  return finished;
}

}  // namespace tessera
