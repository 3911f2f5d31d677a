// The feed-forward block, on the device against the reference and its bounds.
#include "models/builder.h"
#include "schedule/one_op_gpu.h"
#include "support/swept_types.h"

namespace tessera::test {
namespace {

struct BlockOf {
  std::uint64_t rows = 1, k = 1, hidden = 1, n = 1;
  DType type = DType::f32;
  Precision precision = Precision::f32;
  bool gated = false;
  std::uint32_t live = 0;  // rows of the pass, 0: all
};

class FeedForwardOpGpu : public OneOpGpu {
 protected:
  void check(const BlockOf& b) {
    SCOPED_TRACE(testing::Message() << info(b.type).name << " rows " << b.rows << " k " << b.k << " hidden "
                                    << b.hidden << " n " << b.n << (b.gated ? " gated" : "")
                                    << (b.precision == Precision::mixed ? " mixed" : ""));
    Program program;
    const auto add = [&](const char* name, Storage storage, DType type, std::vector<std::uint64_t> shape) {
      return add_value(program, name, storage, type, std::move(shape));
    };
    const auto rows = [&](const char* name, std::uint64_t columns) {
      const ValueId id = add(name, Storage::output, DType::f32, {b.rows, columns});
      program.values[id].dynamic_rows = b.live != 0;
      return id;
    };
    program.state = add("state", Storage::input, DType::u32, {8});
    const ValueId x = rows("x", b.k), residual = rows("residual", b.n), y = rows("y", b.n);
    const auto weight = [&](const char* name, std::uint64_t n, std::uint64_t k) {
      return add(name, Storage::weight, b.type, {n, k});
    };
    const auto vector = [&](const char* name, std::uint64_t n) {
      return add(name, Storage::weight, DType::f32, {n});
    };
    OpAttrs attrs;
    attrs.act = b.gated ? Activation::silu : Activation::gelu_tanh;
    attrs.precision = b.precision;
    const ValueId none = kNoValue;
    std::vector<ValueId> in{x,
                            weight("w", b.hidden, b.k),
                            vector("bias", b.hidden),
                            b.gated ? weight("up", b.hidden, b.k) : none,
                            b.gated ? vector("up_bias", b.hidden) : none,
                            weight("down", b.n, b.hidden),
                            vector("down_bias", b.n),
                            residual,
                            none};
    program.graphs.push_back({"g", static_cast<std::uint32_t>(b.rows), {}});
    program.graphs[0].ops = {{OpKind::feed_forward, "block", attrs, std::move(in), {y}}};
    expect_agrees(std::move(program), {x, residual},
                  b.live != 0 ? b.live : static_cast<std::uint32_t>(b.rows));
  }
};

TEST_F(FeedForwardOpGpu, BothPrecisionsOfEveryTypePlainAndGated) {
  for (const DType type : swept_weight_types())
    for (const Precision precision : {Precision::f32, Precision::mixed})
      for (const std::uint64_t rows : {3, 33})
        for (const bool gated : {false, true}) {
          const std::uint64_t block = std::max<std::uint64_t>(info(type).block_elems, 32);
          check({.rows = rows,
                 .k = block,
                 .hidden = std::max<std::uint64_t>(block, 64),
                 .n = 37,
                 .type = type,
                 .precision = precision,
                 .gated = gated});
        }
}

TEST_F(FeedForwardOpGpu, AwkwardSizesMixed) {
  constexpr std::uint64_t kSizes[][4] = {{1, 1, 1, 1}, {17, 37, 129, 33}, {65, 7, 31, 67}};
  for (const auto& s : kSizes)
    for (const DType type : {DType::f32, DType::f16})
      for (const bool gated : {false, true})
        check({.rows = s[0],
               .k = s[1],
               .hidden = s[2],
               .n = s[3],
               .type = type,
               .precision = Precision::mixed,
               .gated = gated});
}

TEST_F(FeedForwardOpGpu, OnlyTheRowsOfThePass) {
  for (const std::uint32_t live : {1u, 20u})
    for (const Precision precision : {Precision::f32, Precision::mixed})
      check({.rows = 20,
             .k = 32,
             .hidden = 96,
             .n = 31,
             .type = DType::q8_0,
             .precision = precision,
             .gated = true,
             .live = live});
}

}  // namespace
}  // namespace tessera::test
