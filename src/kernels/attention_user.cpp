// docs/user_functions.md.
#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "device/module.h"
#include "interface/attention.h"
#include "kernels/attention_shape.h"
#include "kernels/grid.h"
#include "kernels/loops.h"
#include "kernels/reflect.h"
#include "kernels/user_glsl.h"
#include "spirv/texts.inc"

namespace tessera {
namespace {

struct KernelText {
  KernelId kernel;
  std::span<const std::uint8_t> gzip;
};
constexpr KernelText kTexts[] = {{KernelId::attention, glsl_attention},
                                 {KernelId::attention_keys, glsl_attention_keys},
                                 {KernelId::attention_split, glsl_attention_split},
                                 {KernelId::attention_scores, glsl_attention_scores},
                                 {KernelId::mask_tiles, glsl_mask_tiles}};

// Bindings of operands that a shape may lack. All are read by every kernel that has them.
constexpr std::uint32_t kOptional[] = {
    shader::kAttentionState, shader::kAttentionMask,   shader::kAttentionBias,      shader::kAttentionSlopes,
    shader::kAttentionSinks, shader::kAttentionVector, shader::kAttentionDocuments, shader::kAttentionTable,
    shader::kAttentionLists, shader::kAttentionKeep};

std::vector<std::uint32_t> free_bindings(const AttentionShape& s) {
  const std::vector<OperandIndex> operands = attention_operands(s);
  std::vector<std::uint32_t> out;
  for (const std::uint32_t binding : kOptional)
    if (operands[binding] == kNoOperand && (binding != shader::kAttentionKeep || s.attrs.top_k == 0))
      out.push_back(binding);
  return out;
}

// A buffer and the function that reads it, at the last element where the index is past the end.
std::string declare(const UserBuffer& buffer, std::uint32_t binding) {
  const char* const types[] = {"float", "uint", "int"};
  const std::string type = types[static_cast<std::size_t>(buffer.type)], words = "user_words_" + buffer.name;
  return "layout(std430, binding = " + std::to_string(binding) + ") restrict readonly buffer UserBuffer_" +
         buffer.name + " { " + type + " " + words + "[]; };\n" + type + " " + user_buffer_name(buffer.name) +
         "(uint i) { return " + words + "[min(i, uint(" + words + ".length()) - 1u)]; }\n";
}

// The user's functions as they stand behind a kernel's text.
struct UserTexts {
  std::string score, mask;
  MaskReach reach;
};
Result<UserTexts> user_texts(const UserFunctions& user) {
  UserTexts out{std::string(kUserScore.fallback), std::string(kUserMask.fallback), {}};
  int number = 0;
  for (const auto& [entry, function, text] :
       {std::tuple(&kUserScore, &user.score, &out.score), std::tuple(&kUserMask, &user.mask, &out.mask)}) {
    ++number;
    if (function->empty()) continue;
    TSR_TRY(const std::string own, user_text(*entry, *function, user.buffers));
    *text = "#line 1 " + std::to_string(number) + "\n" + own + "\n";
  }
  out.reach = mask_reach(out.mask);
  return out;
}

constexpr std::size_t kShortText = 500;  // several copies of it are little code

// The kernel's text with the user's behind it. `tiles`: the binding of mask_tiles' words; `asks_first`: the
// kernel asks the mask about keys before it reads them.
Result<std::string> assemble(const KernelText& kernel, const UserFunctions& user, const UserTexts& texts,
                             std::span<const std::uint32_t> bindings, std::optional<std::uint32_t> tiles,
                             bool asks_first) {
  TSR_TRY(std::string text, module_text(kernel.gzip));
  std::string defines;
  const auto define = [&](const char* name, std::uint32_t value) {
    defines += std::string("#define ") + name + " " + std::to_string(value) + "\n";
  };
  define("USER_SCORE", user.score.empty() ? 0 : 1);
  define("USER_MASK", user.mask.empty() ? 0 : 1);
  define("USER_TILED", tiles ? 1 : 0);
  define("USER_TILES", tiles.value_or(shader::kAttentionState));
  define("USER_ASKS_FIRST", asks_first ? 1 : 0);
  define("USER_AHEAD", user.mask.size() <= kShortText ? 8 : 1);
  define("USER_BATCHES", texts.reach.batch ? 1 : 0);
  define("USER_HEADS", texts.reach.head ? 1 : 0);
  text.insert(text.find('\n', text.find("#version")) + 1, defines);
  for (std::size_t i = 0; i < user.buffers.size(); ++i) text += declare(user.buffers[i], bindings[i]);
  return text + texts.score + texts.mask;
}

// Instructions of the entry point with all that it calls in its place, as drivers make of it. Nothing where
// functions call themselves.
class Inlined {
 public:
  explicit Inlined(std::span<const std::uint32_t> words) {
    constexpr std::uint32_t kEntryPoint = 15, kCall = 57;
    Function* function = nullptr;
    for (std::size_t i = 5; i < words.size();) {
      const std::uint32_t op = words[i] & 0xffffu, length = words[i] >> 16;
      if (length == 0 || i + length > words.size()) return;
      if (op == kEntryPoint && length > 2) entry_ = words[i + 2];
      if (op == spirv::kFunction && length > 2) function = &functions_[words[i + 2]];
      if (function != nullptr) ++function->size;
      if (op == kCall && function != nullptr && length > 3) function->calls.push_back(words[i + 3]);
      i += length;
    }
  }
  std::optional<double> size() { return size_of(entry_); }

 private:
  struct Function {
    double size = 0;
    std::vector<std::uint32_t> calls;
    enum class State : std::uint8_t { fresh, open, known } state = State::fresh;
  };

  std::optional<double> size_of(std::uint32_t id) {
    Function& f = functions_[id];
    if (f.state == Function::State::open) return std::nullopt;
    if (f.state == Function::State::known) return f.size;
    f.state = Function::State::open;
    for (const std::uint32_t called : f.calls) {
      const auto size = size_of(called);
      if (!size) return std::nullopt;
      f.size += *size;
    }
    f.state = Function::State::known;
    return f.size;
  }

  std::uint32_t entry_ = 0;
  std::map<std::uint32_t, Function> functions_;
};

// Whether instructions and functions are whole: what was cut off or garbled on its way seldom is.
bool is_whole(std::span<const std::uint32_t> words) {
  constexpr std::uint32_t kFunctionEnd = 56, kMostBound = 1u << 22;  // SPIR-V's own limit
  if (words[3] == 0 || words[3] > kMostBound) return false;
  bool inside = false, any = false;
  for (std::size_t i = 5; i < words.size();) {
    const std::uint32_t op = words[i] & 0xffffu, length = words[i] >> 16;
    if (length == 0 || i + length > words.size()) return false;
    if (op == spirv::kFunction || op == kFunctionEnd) {
      if (inside != (op == kFunctionEnd)) return false;
      inside = !inside;
      any = true;
    }
    i += length;
  }
  return any && !inside;
}

// What a compiler of the host's gave has the kernel's own interface. Its instructions, with functions in
// place.
Result<double> check_module(const Kernel& k, const SpirvBytes& module, std::uint32_t user_bindings) {
  constexpr double kMostInlined = 50000;  // the kernels have up to 5,000
  const auto refuse = [&](const std::string& why) {
    return Error{Code::invalid_argument,
                 "the module of " + std::string(k.name) + " with a user's functions " + why};
  };
  const auto read = module_words(module);
  if (!read || module.size() % 4 != 0) return refuse("is no SPIR-V");
  const std::vector<std::uint32_t>& words = *read;
  if (!is_whole(words)) return refuse("is damaged");
  Inlined inlined(words);
  const auto size = inlined.size();
  if (!size) return refuse("calls a function within itself");
  if (*size > kMostInlined)
    return refuse("has " + std::to_string(static_cast<std::uint64_t>(*size)) +
                  " instructions with its functions in place, at most 50000 are taken");
  const ModuleInterface found = reflect(words);
  if (!found.ok || !specs_match(found, k.spec_count) || found.push_members != 0)
    return refuse("is no compute shader of that kernel");
  for (std::uint32_t b = 0; b < found.access.size(); ++b) {
    const bool user = (user_bindings >> b & 1) != 0;
    const auto may = static_cast<std::uint8_t>(b < k.binding_count ? k.access[b] : Access::none) |
                     static_cast<std::uint8_t>(user ? Access::read : Access::none);
    if ((static_cast<std::uint8_t>(found.access[b]) & ~may) != 0)
      return refuse("uses binding " + std::to_string(b) + " otherwise than the kernel");
  }
  return *size;
}

}  // namespace

std::optional<Dispatch> choose_mask_tiles(const AttentionShape& s, const Dispatch& of, bool batches,
                                          bool heads, const Limits& limits) {
  constexpr std::uint32_t kPairsALane = 64, kMostLanes = 256;
  const AttentionAttrs& a = s.attrs;
  // Keys of a ring count on past kv_len; tiles of block lists are not of keys side by side.
  if (of.tile_rows == 0 || of.tile_keys == 0 || a.ring || s.operands.list_words != 0) return std::nullopt;
  const std::uint64_t rows = row_tiles(s, of.tile_rows),
                      words = ceil_div(ceil_div(a.kv_len, of.tile_keys), 16),
                      slots = std::uint64_t{batches ? a.batch : 1} * (heads ? a.heads / folded_heads(s) : 1);
  const std::uint64_t bytes = 4 * (shader::kMaskTilesHeader + words) * rows * slots;
  if (words == 0 || rows > limits.max_group_count[0] || slots > limits.max_group_count[1] ||
      bytes > limits.max_storage_range)
    return std::nullopt;
  const std::uint64_t pairs = std::uint64_t{16} * of.tile_rows * of.tile_keys;
  const std::uint32_t lanes = group_size(ceil_div(pairs, kPairsALane), kMostLanes, limits);
  Dispatch d;
  d.kernel = KernelId::mask_tiles;
  d.spec = attention_specs(s, group_size(words * lanes, kMostLanes, limits));
  d.spec.insert(d.spec.end(), {of.tile_rows, of.tile_keys, lanes, 0});
  d.params = words_of(attention_params(s, of.tile_rows, 1));
  d.operands = attention_operands(s);
  for (const std::uint32_t binding : {shader::kAttentionQ, shader::kAttentionK, shader::kAttentionV})
    d.operands[binding] = kNoOperand;
  d.grid = {static_cast<std::uint32_t>(rows), static_cast<std::uint32_t>(slots), 1};
  d.bytes = double(bytes);
  // The walk over the words is a loop of the main kernel's: once more for each of its tiles and their words.
  const bool ends = loop_iterations(d) <= limits.max_loop_iterations &&
                    4 * loop_iterations(of) <= limits.max_loop_iterations;
  return ends ? std::optional(std::move(d)) : std::nullopt;
}

namespace {

// A lane of it may ask about many keys: loops of a text would have to be short where the driver ends them.
bool is_keys(const Dispatch& d) { return d.kernel == KernelId::attention_keys; }

Result<void> give_functions(const AttentionShape& s, const UserTexts& texts,
                            std::span<const std::uint32_t> bindings, std::optional<std::uint32_t> tiles,
                            const Limits& limits, Dispatch& d) {
  const auto text = std::ranges::find(kTexts, d.kernel, &KernelText::kernel);
  if (text == std::end(kTexts)) return {};
  const UserFunctions& user = *s.attrs.user;
  for (std::size_t i = 0; i < user.buffers.size(); ++i) {
    d.operands[bindings[i]] = static_cast<OperandIndex>(kAttentionOperands + i);
    d.user_bindings |= 1u << bindings[i];
  }
  // Its loops go round less than three times as often then.
  const bool asks_first = !user.mask.empty() && !tiles && !(is_keys(d) && has_loops(user.mask)) &&
                          3 * loop_iterations(d) <= limits.max_loop_iterations;
  TSR_TRY(const std::string source, assemble(*text, user, texts, bindings, tiles, asks_first));
  const Kernel& k = kernel(d.kernel);
  std::string log;
  auto module = user.modules->module(k.name, source, log);
  if (!module && !log.empty()) return user_error(user, log);
  if (!module) return module.error();
  TSR_TRY(const double instructions, check_module(k, **module, d.user_bindings));
  // A mask of so many instructions comes tile_rows * tile_keys times, which is up to 64.
  constexpr double kShort = 1500;
  if (d.kernel == KernelId::mask_tiles && instructions <= kShort)
    d.spec[shader::kMaskTilesSpecWhole] = d.spec[shader::kMaskTilesSpecRows] <= 4 ? 1 : 0;
  d.module = *std::move(module);
  return {};
}

struct MaskTiles {
  std::optional<std::uint32_t> binding;  // of the words
  std::size_t reader = 0;                // the dispatch whose tiles they are
};

// Before the dispatch that has tiles, where a binding is left for the words.
MaskTiles add_mask_tiles(const AttentionShape& s, MaskReach reach, std::span<const std::uint32_t> bindings,
                         const Limits& limits, AttentionChoice& choice) {
  const std::size_t used = s.attrs.user->buffers.size();
  const auto reader =
      std::ranges::find_if(choice.dispatches, [](const Dispatch& d) { return d.tile_rows != 0; });
  if (s.attrs.user->mask.empty() || used == bindings.size() || reader == choice.dispatches.end()) return {};
  // Few rows share no answer worth a dispatch.
  if (is_keys(*reader) && has_few_rows(s) && !has_loops(s.attrs.user->mask)) return {};
  std::optional<Dispatch> tiles = choose_mask_tiles(s, *reader, reach.batch, reach.head, limits);
  if (!tiles) return {};
  const auto scratch = static_cast<OperandIndex>(kScratchOperand + choice.scratch.size());
  choice.scratch.push_back(static_cast<std::uint64_t>(tiles->bytes));
  tiles->operands[shader::kAttentionOut] = scratch;
  tiles->operands[shader::kAttentionLse] = kNoOperand;
  reader->operands[bindings[used]] = scratch;
  reader->user_bindings |= 1u << bindings[used];
  const auto at = choice.dispatches.insert(reader, *std::move(tiles));
  return {bindings[used], static_cast<std::size_t>(at - choice.dispatches.begin()) + 1};
}

}  // namespace

Result<void> add_user_functions(const AttentionShape& s, const Limits& limits, AttentionChoice& choice) {
  const UserFunctions& user = *s.attrs.user;
  const std::vector<std::uint32_t> bindings = free_bindings(s);
  if (user.buffers.size() > bindings.size())
    return Error{Code::unsupported, describe(s) + ": " + std::to_string(user.buffers.size()) +
                                        " buffers of a user's functions, its other operands leave room for " +
                                        std::to_string(bindings.size())};
  for (const UserBuffer& buffer : user.buffers)
    if (!is_user_name(buffer.name))
      return Error{Code::invalid_argument,
                   "user." + buffer.name + ": a user's function cannot read a buffer of that name"};
  TSR_TRY(const UserTexts texts, user_texts(user));
  const MaskTiles tiles = add_mask_tiles(s, texts.reach, bindings, limits, choice);
  for (std::size_t i = 0; i < choice.dispatches.size(); ++i)
    TSR_CHECK(give_functions(s, texts, bindings, i == tiles.reader ? tiles.binding : std::nullopt, limits,
                             choice.dispatches[i]));
  return {};
}

}  // namespace tessera
