// The words and numbers that shaders and the host share are the same on both sides.
#include <cstddef>

#include "base/dtype.h"
#include "graph/graph.h"
#include "graph/state.h"
#include "interface/state.h"
#include "interface/step.h"
#include "kernels/choose.h"

namespace tessera {

// The words that shaders read by number are these members.
#define TSR_SAME_WORD(Struct, member, word) static_assert(offsetof(Struct, member) == 4 * shader::word)
TSR_SAME_WORD(StepState, position, kStatePosition);
TSR_SAME_WORD(StepState, rows, kStateRows);
TSR_SAME_WORD(StepState, status, kStateStatus);
TSR_SAME_WORD(StepState, token, kStateToken);
TSR_SAME_WORD(StepState, remaining, kStateRemaining);
TSR_SAME_WORD(SamplerParams, temperature, kSamplerTemperature);
TSR_SAME_WORD(SamplerParams, top_k, kSamplerTopK);
TSR_SAME_WORD(SamplerParams, top_p, kSamplerTopP);
TSR_SAME_WORD(SamplerParams, min_p, kSamplerMinP);
TSR_SAME_WORD(SamplerParams, penalty, kSamplerPenalty);
TSR_SAME_WORD(SamplerParams, penalty_last, kSamplerPenaltyLast);
TSR_SAME_WORD(SamplerParams, seed_low, kSamplerSeedLow);
TSR_SAME_WORD(SamplerParams, seed_high, kSamplerSeedHigh);
#undef TSR_SAME_WORD
#define TSR_SAME_NUMBER(a, b) static_assert(static_cast<std::uint32_t>(a) == shader::b)
TSR_SAME_NUMBER(DType::f32, kTypeF32);
TSR_SAME_NUMBER(DType::f16, kTypeF16);
TSR_SAME_NUMBER(DType::bf16, kTypeBf16);
TSR_SAME_NUMBER(DType::q8_0, kTypeQ8_0);
TSR_SAME_NUMBER(DType::q4_0, kTypeQ4_0);
TSR_SAME_NUMBER(DType::q4_1, kTypeQ4_1);
TSR_SAME_NUMBER(DType::q5_0, kTypeQ5_0);
TSR_SAME_NUMBER(DType::q5_1, kTypeQ5_1);
TSR_SAME_NUMBER(DType::q4_k, kTypeQ4_K);
TSR_SAME_NUMBER(DType::q5_k, kTypeQ5_K);
TSR_SAME_NUMBER(DType::q6_k, kTypeQ6_K);
TSR_SAME_NUMBER(Activation::none, kActNone);
TSR_SAME_NUMBER(Activation::silu, kActSilu);
TSR_SAME_NUMBER(Activation::gelu_tanh, kActGeluTanh);
TSR_SAME_NUMBER(Activation::gelu_erf, kActGeluErf);
TSR_SAME_NUMBER(Activation::relu, kActRelu);
TSR_SAME_NUMBER(Activation::relu2, kActRelu2);
TSR_SAME_NUMBER(Activation::sigmoid, kActSigmoid);
#undef TSR_SAME_NUMBER
static_assert(sizeof(StepState) == 4 * shader::kStateWords &&
              sizeof(SamplerParams) == 4 * shader::kSamplerWords);
static_assert(kStatusOk == shader::kStatusWordOk && kStatusNaN == shader::kStatusWordNaN);

}  // namespace tessera
