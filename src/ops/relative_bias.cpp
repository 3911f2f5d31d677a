#include "ops/relative_bias.h"

#include <algorithm>
#include <cmath>

namespace tessera {
namespace {

Buckets buckets_of(const Arguments& args) {
  return {static_cast<std::uint32_t>(args.in("relative_bias").shape()[0]),
          static_cast<std::uint32_t>(args.integer("max_distance")), args.integer("bidirectional") != 0};
}

Result<void> check_buckets(const Arguments& args, const Buckets& b) {
  const std::uint32_t side = b.bidirectional ? b.count / 2 : b.count;
  if (side < 2 || (b.bidirectional && b.count % 2 != 0))
    return args.refuse("relative_bias has " + std::to_string(b.count) + " buckets, T5 needs 2 of each side");
  if (b.max_distance <= side / 2)
    return args.refuse("max_distance is " + std::to_string(b.max_distance) + ", it must be above the " +
                       std::to_string(side / 2) + " distances that have buckets of their own");
  return {};
}

Result<void> check_window(const Arguments& args, const AttentionAttrs& a) {
  const std::uint64_t width = a.relative_size;
  if (width == 0) return args.refuse("relative=window needs window_width");
  if (a.q_len != a.kv_len || a.q_len % width != 0)
    return args.refuse("relative=window needs as many keys as rows, a multiple of window_width " +
                       std::to_string(width));
  return {};
}

}  // namespace

std::uint32_t t5_bucket(const Buckets& b, std::int64_t distance) {
  std::uint32_t side = b.count, first = 0;
  if (b.bidirectional) {
    side /= 2;
    first = distance > 0 ? side : 0;
  }
  const std::int64_t away = b.bidirectional ? std::abs(distance) : -std::min<std::int64_t>(distance, 0);
  const std::uint32_t exact = side / 2;
  if (away < exact) return first + static_cast<std::uint32_t>(away);
  // A whole number where the logarithms are in a whole ratio: rounding must not take it for the one below.
  constexpr double kSlack = 1e-9;
  const double part = std::log(static_cast<double>(away) / exact) / std::log(double(b.max_distance) / exact);
  const double bucket = std::floor(exact + part * (side - exact) + kSlack);
  return first + static_cast<std::uint32_t>(std::min<double>(bucket, side - 1));
}

Result<void> set_relative(const Arguments& args, AttentionAttrs& a) {
  const std::string kind = args.choice("relative");
  for (const auto& [name, of] : {std::pair("max_distance", "t5"), std::pair("bidirectional", "t5"),
                                 std::pair("window_width", "window")})
    if (args.given(name) && kind != of) return args.refuse(std::string(name) + " is of relative=" + of);
  if (!args.has("relative_bias"))
    return args.given("relative") ? Result<void>(args.refuse("relative needs relative_bias"))
                                  : Result<void>();
  const std::vector<std::uint64_t>& shape = args.in("relative_bias").shape();
  const std::uint64_t given = shape.size() == 2 ? shape[0] : 0;
  const auto expect = [&](const std::string& entries, bool fits) -> Result<void> {
    if (fits && shape.size() == 2 && shape[1] == a.heads) return {};
    return args.refuse("relative_bias is " + shape_text(shape) + ", it must be (" + entries + ", " +
                       std::to_string(a.heads) + ")");
  };
  if (args.has("alibi_slopes")) return args.refuse("relative_bias cannot be combined with alibi_slopes");
  a.relative = kind == "window" ? RelativeBias::window : RelativeBias::distance;
  if (kind == "window") {
    a.relative_size = static_cast<std::uint32_t>(args.integer("window_width"));
    TSR_CHECK(check_window(args, a));
    return expect(std::to_string(relative_entries(a)), given == relative_entries(a));
  }
  TSR_CHECK(expect(kind == "t5" ? "buckets" : "2 r + 1", kind == "t5" || given % 2 == 1));
  if (kind == "distance") {
    a.relative_size = static_cast<std::uint32_t>(given / 2);
    return {};
  }
  const Buckets buckets = buckets_of(args);
  a.relative_size = buckets.max_distance;
  return check_buckets(args, buckets);
}

ValueId add_relative(const Arguments& args, const AttentionAttrs& a, OpProgram& program) {
  if (a.relative == RelativeBias::none) return kNoValue;
  const std::vector<std::uint64_t> shape{relative_entries(a), a.heads};
  if (args.choice("relative") != "t5") return program.given("relative_bias", DType::f32, shape);
  const Buckets buckets = buckets_of(args);
  const std::vector<float> table = program.floats("relative_bias");
  std::vector<float> by_distance;
  const std::int64_t reach = a.relative_size;
  for (std::int64_t distance = -reach; distance <= reach; ++distance) {
    const auto row = table.begin() + std::ptrdiff_t{t5_bucket(buckets, distance)} * a.heads;
    by_distance.insert(by_distance.end(), row, row + a.heads);
  }
  return program.given_bytes("relative_bias", DType::f32, shape, encode(DType::f32, by_distance),
                             {"relative_bias"});
}

}  // namespace tessera
