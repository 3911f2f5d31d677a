#include <map>
#include <string_view>

#include "api/api_fixture.h"

namespace tessera::test {
namespace {

class Verification : public OnBoth {};
TSR_ON_BOTH(Verification);

TEST_P(Verification, TellsOfEveryKind) {
  const Model model = load();
  std::map<std::string, double> ratios;
  tessera_verify_desc desc = init<tessera_verify_desc>();
  desc.user = &ratios;
  desc.row = [](void* user, const tessera_verify_row* row) {
    EXPECT_EQ(row->size, sizeof(tessera_verify_row));
    EXPECT_GT(row->elements, 0u);
    if (row->kind == std::string_view("whole")) {
      EXPECT_LT(row->worst_bound, 0.1 * row->largest);
    } else {
      EXPECT_EQ(row->largest, 0);
    }
    (*static_cast<std::map<std::string, double>*>(user))[row->kind] = row->worst_ratio;
  };
  if (!on_gpu()) {
    expect_failure(model.verify(desc), TESSERA_INVALID_ARGUMENT, "choose a device");
    return;
  }
  take(model.verify(desc));
  for (const char* kind :
       {"embedding", "norm", "matmul", "qkv_append", "attention", "sample", "arena", "whole"}) {
    ASSERT_EQ(ratios.count(kind), 1u) << kind;
    EXPECT_LE(ratios[kind], 1) << kind;
  }
  desc.kv_type = TESSERA_KV_F16;
  take(model.verify(desc));
}

TEST_P(Verification, IdsOfTheCaller) {
  if (!on_gpu()) return;
  const Model model = load();
  const Ids ids = take(model.tokenize(kPrompt));
  tessera_verify_desc desc = init<tessera_verify_desc>();
  desc.ids = ids.data();
  desc.id_count = ids.size();
  desc.chunk = 5;
  take(model.verify(desc));
  desc.context = 8;
  expect_failure(model.verify(desc), TESSERA_INVALID_ARGUMENT, "context of 8");
  desc.context = 0;
  desc.precision = static_cast<tessera_precision>(2);
  expect_failure(model.verify(desc), TESSERA_INVALID_ARGUMENT, "precision 2 is not a tessera_precision");
  desc.precision = TESSERA_PRECISION_MIXED;
  take(model.verify(desc));
  desc.precision = TESSERA_PRECISION_F32;
  desc.id_count = 3;
  expect_failure(model.verify(desc), TESSERA_INVALID_ARGUMENT, "more than 3");
  const Ids wrong(8, 320);
  desc.ids = wrong.data();
  desc.id_count = wrong.size();
  expect_failure(model.verify(desc), TESSERA_INVALID_ARGUMENT, "vocabulary of 320");
  desc.ids = nullptr;  // the count alone means nothing
  desc.context = 8;
  take(model.verify(desc));
}

TEST_P(Verification, IsCancelled) {
  if (!on_gpu()) return;
  const Model model = load();
  int left = 5;
  tessera_verify_desc desc = init<tessera_verify_desc>();
  desc.progress_user = &left;
  desc.progress = [](void* user, const char* stage, std::uint64_t, std::uint64_t) {
    EXPECT_STREQ(stage, "verify");
    return --*static_cast<int*>(user) < 0 ? 1 : 0;
  };
  expect_failure(model.verify(desc), TESSERA_CANCELLED, "cancelled");
}

}  // namespace
}  // namespace tessera::test
