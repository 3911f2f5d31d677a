// Compiled by tests only: a module and its line in the catalogue disagree in the way that DRIFT names, and
// the compiler must say so.
#include <string_view>

#include "interface/embedding.h"
#include "interface/norm.h"
#include "kernels/reflect.h"
#include "spirv/embed.inc"

namespace tessera {
using namespace shader;
#if DRIFT == 0
TSR_CHECK_MODULE(norm, NormPush, kNormBindings, kNormSpecs);
#elif DRIFT == 1
TSR_CHECK_MODULE(norm, EmbeddingPush, kNormBindings, kNormSpecs);
#elif DRIFT == 2
TSR_CHECK_MODULE(norm, NormPush, kNormBindings - 1, kNormSpecs);
#elif DRIFT == 3
TSR_CHECK_MODULE(norm, NormPush, kNormBindings, kNormSpecs - 1);
#endif
}  // namespace tessera
