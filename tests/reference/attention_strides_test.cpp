// Attention on views of any strides against PyTorch in float64.
#include <gmock/gmock.h>

#include "reference/one_op.h"
#include "support/attention_golden.h"

namespace tessera::test {
namespace {

TEST(AttentionStrides, AsPyTorch) {
  const std::vector<StridedAttention> goldens = strided_attentions();
  ASSERT_GE(goldens.size(), 12u);
  for (const StridedAttention& golden : goldens) {
    SCOPED_TRACE(golden.name);
    Bench bench;
    const auto add = [&](const char* name, const StridedTensor& tensor) {
      return bench.add(name, Storage::output, tensor.type, {tensor.elems()}, false);
    };
    std::vector<ValueId> in(static_cast<std::size_t>(AttentionIn::count), kNoValue);
    in[0] = add("q", golden.q);
    in[1] = add("k", golden.k);
    in[2] = add("v", golden.v);
    const ValueId y = add("y", golden.y);
    OpAttrs attrs;
    attrs.attention = golden.attrs;
    bench.op(OpKind::attention, attrs, in, {y, kNoValue, kNoValue});
    bench.write(in[0], golden.q.bytes);
    bench.write(in[1], golden.k.bytes);
    bench.write(in[2], golden.v.bytes);
    const std::vector<ReferenceOutput> outputs = bench.run();
    ASSERT_EQ(outputs.size(), 1u);
    std::vector<bool> written(golden.y.elems(), false);
    for (std::size_t i = 0; i < outputs[0].expected.size(); ++i) {
      const std::uint64_t e = outputs[0].element(i);
      const double wanted = golden.y.at(e);
      ASSERT_FALSE(written[e]);
      written[e] = true;
      ASSERT_NEAR(outputs[0].expected[i], wanted, golden.tolerance(wanted, 1e-6)) << "element " << e;
    }
    for (std::uint64_t e = 0; e < written.size(); ++e)
      ASSERT_EQ(written[e], !std::isnan(golden.y.at(e))) << e;
  }
}

}  // namespace
}  // namespace tessera::test
