#include <cmath>

#include "graph/fuse.h"
#include "reference/reference.h"
#include "session/fake_walker.h"
#include "support/random_decoder.h"
#include "support/refusal.h"

namespace tessera::test {
namespace {

using testing::ElementsAre;
using Ids = std::vector<TokenId>;

void append(DecoderSession& session, const Ids& ids) {
  const auto done = session.append(ids);
  EXPECT_TRUE(done.ok()) << done.error().message;
}
TokenId next(DecoderSession& session) {
  const auto id = session.next();
  EXPECT_TRUE(id.ok()) << id.error().message;
  return id.ok() ? *id : ~0u;
}
Ids tokens(const DecoderSession& session) { return {session.tokens().begin(), session.tokens().end()}; }

TEST(DecoderSession, PromptsRunInChunksThenOneByOne) {
  FakeSession f({50, 51, 52});
  append(f.session, {1, 2, 3, 4, 5, 6, 7, 8, 9});
  EXPECT_EQ(next(f.session), 50u);
  EXPECT_EQ(next(f.session), 51u);
  EXPECT_EQ(next(f.session), 52u);
  EXPECT_THAT(f.walker->log, ElementsAre("prefill 4@0", "prefill 4@4", "prefill 1@8", "head", "decode 50@9",
                                         "decode 51@10"));
  EXPECT_EQ(tokens(f.session), (Ids{1, 2, 3, 4, 5, 6, 7, 8, 9, 50, 51, 52}));
  EXPECT_EQ(f.session.position(), 11u);
  const SessionStats& stats = f.session.stats();
  EXPECT_EQ(stats.prefill_tokens, 9u);
  EXPECT_EQ(stats.decode_tokens, 2u);
  EXPECT_EQ(stats.prefill_submits, 4u);
  EXPECT_EQ(stats.decode_submits, 2u);
  EXPECT_EQ(stats.decode_records, 0u);
}

TEST(DecoderSession, ASinglePendingTokenIsADecode) {
  FakeSession f({50});
  append(f.session, {9});
  EXPECT_EQ(next(f.session), 50u);
  EXPECT_THAT(f.walker->log, ElementsAre("decode 9@0"));
}

TEST(DecoderSession, GoesOnAfterAppendingMore) {
  FakeSession f({50, 51, 52});
  append(f.session, {1, 2});
  next(f.session);
  append(f.session, {3});  // the sampled token is pending too
  next(f.session);
  EXPECT_EQ(next(f.session), 52u);
  EXPECT_THAT(f.walker->log, ElementsAre("prefill 2@0", "head", "prefill 2@2", "head", "decode 51@4"));
  EXPECT_EQ(tokens(f.session), (Ids{1, 2, 50, 3, 51, 52}));
  EXPECT_EQ(f.walker->tokens[2], 50u);
  EXPECT_EQ(f.walker->tokens[3], 3u);
}

TEST(DecoderSession, AppendingInPartsIsAppendingAtOnce) {
  FakeSession f({50});
  append(f.session, {1, 2});
  append(f.session, {});
  append(f.session, {3});
  next(f.session);
  EXPECT_THAT(f.walker->log, ElementsAre("prefill 3@0", "head"));
}

TEST(DecoderSession, ResetForgets) {
  FakeSession f({50, 51});
  append(f.session, {1, 2});
  next(f.session);
  f.session.reset();
  EXPECT_EQ(f.session.position(), 0u);
  EXPECT_TRUE(f.session.tokens().empty());
  expect_refused(f.session.next(), Code::invalid_argument, {"append a prompt"});
  append(f.session, {8, 9});
  EXPECT_EQ(next(f.session), 51u);
  EXPECT_EQ(f.walker->log.at(2), "prefill 2@0");
}

TEST(DecoderSession, RefusesWhatIsNotOfTheVocabulary) {
  FakeSession f({});
  expect_refused(f.session.append(Ids{1, 300, 2}), Code::invalid_argument, {"300", "vocabulary of 300"});
  EXPECT_TRUE(f.session.tokens().empty());
}

TEST(DecoderSession, RefusesWhatDoesNotFit) {
  FakeSession f({});
  append(f.session, Ids(10, 1));
  expect_refused(f.session.append(Ids(3, 1)), Code::invalid_argument, {"13 tokens", "context of 12"});
  EXPECT_EQ(f.session.tokens().size(), 10u);
  append(f.session, Ids(2, 1));
}

TEST(DecoderSession, TheLastTokenComesWithAFullCache) {
  FakeSession f({50, 51, 52, 53});
  append(f.session, Ids(10, 1));
  EXPECT_EQ(next(f.session), 50u);
  EXPECT_EQ(next(f.session), 51u);
  EXPECT_FALSE(f.session.full());
  EXPECT_EQ(next(f.session), 52u);  // after token 12 of 12
  EXPECT_TRUE(f.session.full());
  expect_refused(f.session.next(), Code::invalid_argument, {"context of 12", "full"});
  expect_refused(f.session.append(Ids{1}), Code::invalid_argument, {"14 tokens"});
  append(f.session, {});
  EXPECT_EQ(f.session.position(), 12u);
}

TEST(DecoderSession, APromptMayFillTheCache) {
  FakeSession f({50});
  append(f.session, Ids(12, 1));
  EXPECT_EQ(next(f.session), 50u);
  EXPECT_TRUE(f.session.full());
}

TEST(DecoderSession, ANaNIsAnErrorAndTheSessionGoesOn) {
  FakeSession f({FakeWalker::kNaN, 51, FakeWalker::kNaN, 52});
  append(f.session, {1, 2});
  expect_refused(f.session.next(), Code::numeric, {"position 1", "NaN"});
  expect_refused(f.session.next(), Code::invalid_argument, {"append"});
  append(f.session, {3});
  EXPECT_EQ(next(f.session), 51u);
  expect_refused(f.session.next(), Code::numeric, {"position 3"});
  append(f.session, {4, 5});
  EXPECT_EQ(next(f.session), 52u);
  EXPECT_EQ(tokens(f.session), (Ids{1, 2, 3, 51, 4, 5, 52}));
}

TEST(DecoderSession, ErrorsOfTheWalkerComeThrough) {
  FakeSession f({50});
  f.walker->fail_at = 1;
  append(f.session, Ids(6, 1));
  expect_refused(f.session.next(), Code::device_lost, {"lost"});
}

TEST(DecoderSession, CancelledPromptsGoOnWhereTheyWere) {
  int calls = 0;
  FakeSession f({50, 51}, [&](std::string_view stage, std::uint64_t done, std::uint64_t total) {
    EXPECT_EQ(stage, "prefill");
    EXPECT_LE(done, total);
    return ++calls != 2;
  });
  append(f.session, Ids(9, 1));
  expect_refused(f.session.next(), Code::cancelled, {"cancelled"});
  EXPECT_EQ(f.session.position(), 4u);
  EXPECT_EQ(next(f.session), 50u);
  EXPECT_THAT(f.walker->log, ElementsAre("prefill 4@0", "prefill 4@4", "prefill 1@8", "head"));
}

TEST(DecoderSession, LogitsComeForEveryPositionInOrder) {
  FakeSession f({50, 51, 52}, {}, true);
  append(f.session, {1, 2, 3, 4, 5});
  next(f.session);
  next(f.session);
  append(f.session, {6});
  next(f.session);
  ASSERT_EQ(f.logits.size(), 8u);
  for (std::uint32_t i = 0; i < f.logits.size(); ++i) {
    EXPECT_EQ(f.logits[i].first, i);
    EXPECT_EQ(f.logits[i].second, static_cast<float>(i));
  }
}

TEST(DecoderSession, TheSamplerReachesTheWalker) {
  FakeSession f({});
  SamplerParams sampler;
  sampler.temperature = 0.5f;
  sampler.seed_high = 9;
  ASSERT_TRUE(f.session.set_sampler(sampler).ok());
  EXPECT_EQ(f.walker->sampler.temperature, 0.5f);
  EXPECT_EQ(f.walker->sampler.seed_high, 9u);
}

// On real graphs: however a text reaches the session, the logits are the same.
class OnTheReference : public testing::Test {
 protected:
  struct Run {
    Ids ids;
    std::vector<std::vector<float>> logits;
    std::unique_ptr<DecoderSession> session;
  };
  Run run(std::uint32_t chunk) {
    Run out;
    const DecoderProgram model = RandomDecoder{}.build(24, chunk, {}, true);
    auto walker = ReferenceWalker::create(std::make_shared<const Program>(fuse(*model.program)));
    EXPECT_TRUE(walker.ok());
    rows_.clear();
    out.session = std::make_unique<DecoderSession>(
        *std::move(walker), model,
        [this](std::uint32_t position, std::span<const float> row) {
          EXPECT_EQ(position, rows_.size());
          rows_.emplace_back(row.begin(), row.end());
        },
        Progress());
    return out;
  }
  std::vector<std::vector<float>> rows_;
};

TEST_F(OnTheReference, ChunksPartsAndStepsAgree) {
  const Ids prompt = spread_ids(9, 96);
  std::vector<std::vector<float>> wanted;
  Ids generated;
  for (const std::uint32_t chunk : {16u, 4u, 1u}) {
    Run r = run(chunk);
    append(*r.session, prompt);
    Ids ids;
    for (int i = 0; i < 4; ++i) ids.push_back(next(*r.session));
    if (wanted.empty()) {
      wanted = rows_;
      generated = ids;
      EXPECT_EQ(rows_.size(), prompt.size() + 3);
    }
    EXPECT_EQ(ids, generated);
    ASSERT_EQ(rows_.size(), wanted.size());
    for (std::size_t p = 0; p < rows_.size(); ++p)
      for (std::size_t i = 0; i < rows_[p].size(); ++i)
        EXPECT_NEAR(rows_[p][i], wanted[p][i], 1e-4) << "position " << p << " chunk " << chunk;
    // The same text again, appended one token at a time.
    r.session->reset();
    rows_.clear();
    for (TokenId id : prompt) append(*r.session, {id});
    EXPECT_EQ(next(*r.session), generated[0]);
    EXPECT_EQ(rows_.size(), prompt.size());
  }
}

}  // namespace
}  // namespace tessera::test
