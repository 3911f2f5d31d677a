#include "device/limits.h"

#include <gmock/gmock.h>

namespace tessera {
namespace {

using testing::HasSubstr;

struct Fixture {
  Limits limits;
  Caps caps;
  Fixture() {
    limits.max_group_invocations = 1024;
    limits.subgroup_size = 32;
    limits.min_subgroup_size = 8;
    limits.max_subgroup_size = 64;
    limits.timestamp_ns = 1.5f;
    caps.fp16 = caps.coopmat = caps.coopmat2 = caps.int_dot = caps.int_dot_fast = caps.subgroup_size_control =
        true;
  }
  std::string try_one(const std::string& name, std::uint64_t value) {
    const CapOverride o{name, value};
    const auto result = apply(std::span(&o, 1), limits, caps);
    if (result) return "";
    EXPECT_EQ(result.error().code, Code::invalid_argument);
    return result.error().message;
  }
};

TEST(CapOverrides, Parse) {
  const auto good = parse_cap_override("max_storage_range=1m");
  ASSERT_TRUE(good);
  EXPECT_EQ(good->name, "max_storage_range");
  EXPECT_EQ(good->value, 1u << 20);
  EXPECT_EQ(parse_cap_override("fp16=0")->value, 0u);
  for (const char* bad : {"", "fp16", "=1", "fp16=", "fp16=x", "fp16=-1", "fp16=1 ", "fp16=k",
                          "max_buffer_size=99999999999999999999", "max_buffer_size=18446744073709551615g"})
    EXPECT_EQ(parse_cap_override(bad).error().code, Code::invalid_argument) << bad;
  EXPECT_THAT(parse_cap_override("fp17=0").error().message,
              testing::AllOf(HasSubstr("fp17"), HasSubstr("max_group_size_x"), HasSubstr("coopmat2")));
}

TEST(CapOverrides, OnlyLower) {
  Fixture f;
  EXPECT_EQ(f.try_one("max_group_invocations", 256), "");
  EXPECT_EQ(f.limits.max_group_invocations, 256u);
  EXPECT_THAT(f.try_one("max_group_invocations", 512), HasSubstr("only be lowered"));
  EXPECT_THAT(f.try_one("max_group_invocations", 64), HasSubstr("128"));
  EXPECT_THAT(f.try_one("max_shared_bytes", 16380), HasSubstr("16384"));
  EXPECT_EQ(f.try_one("max_group_count_y", 1), "");
  EXPECT_EQ(f.limits.max_group_count[1], 1u);
  EXPECT_THAT(f.try_one("max_group_size_z", 32), HasSubstr("64"));
  EXPECT_EQ(f.try_one("max_storage_range", 1u << 20), "");
  EXPECT_EQ(f.try_one("max_loop_iterations", 65535), "");
  EXPECT_THAT(f.try_one("max_loop_iterations", 65536), HasSubstr("only be lowered"));
  EXPECT_THAT(f.try_one("max_loop_iterations", 1000), HasSubstr("1024"));
  EXPECT_EQ(f.try_one("timestamp_ns", 0), "");
  EXPECT_EQ(f.limits.timestamp_ns, 0.0f);
}

TEST(CapOverrides, AlignmentOnlyRises) {
  Fixture f;
  EXPECT_EQ(f.try_one("min_storage_alignment", 1024), "");
  EXPECT_THAT(f.try_one("min_storage_alignment", 256), HasSubstr("only be raised"));
  EXPECT_THAT(f.try_one("min_storage_alignment", 1536), HasSubstr("power of two"));
  EXPECT_EQ(f.limits.min_storage_alignment, 1024u);
}

TEST(CapOverrides, Capabilities) {
  Fixture f;
  EXPECT_EQ(f.try_one("fp16", 1), "");
  EXPECT_EQ(f.try_one("fp16", 0), "");
  EXPECT_FALSE(f.caps.fp16);
  EXPECT_THAT(f.try_one("fp16", 1), HasSubstr("does not have"));
  EXPECT_THAT(f.try_one("coopmat", 2), HasSubstr("0 or 1"));
  EXPECT_EQ(f.try_one("coopmat", 0), "");
  EXPECT_FALSE(f.caps.coopmat2);
  EXPECT_EQ(f.try_one("int_dot", 0), "");
  EXPECT_FALSE(f.caps.int_dot_fast);
  EXPECT_THAT(f.try_one("nonsense", 0), HasSubstr("unknown name"));
}

TEST(CapOverrides, SubgroupSizes) {
  Fixture f;
  EXPECT_EQ(f.try_one("max_subgroup_size", 32), "");
  EXPECT_THAT(f.try_one("max_subgroup_size", 16), HasSubstr("32"));
  EXPECT_THAT(f.try_one("subgroup_size", 8), HasSubstr("hardware"));
  EXPECT_EQ(f.try_one("subgroup_size_control", 0), "");
  EXPECT_EQ(f.limits.min_subgroup_size, 32u);
}

TEST(CapOverrides, AllOrNone) {
  Fixture f;
  const CapOverride both[] = {{"fp16", 0}, {"max_group_invocations", 1}};
  EXPECT_FALSE(apply(both, f.limits, f.caps));
  EXPECT_TRUE(f.caps.fp16);
}

TEST(CapOverrides, ListNamesEverythingOnce) {
  Fixture f;
  const auto all = list(f.limits, f.caps);
  EXPECT_EQ(all.size(), 36u);
  for (const NamedValue& v : all) {
    EXPECT_EQ(std::count_if(all.begin(), all.end(), [&](const auto& o) { return o.name == v.name; }), 1);
    EXPECT_TRUE(parse_cap_override(v.name + "=0")) << v.name;
  }
  std::vector<std::string> of_no_choice;
  for (const NamedValue& v : all)
    if (!v.chooses) of_no_choice.push_back(v.name);
  EXPECT_THAT(of_no_choice, testing::ElementsAre("timestamp_ns", "memory_budget", "executable_properties",
                                                 "push_descriptor", "global_priority"));
  EXPECT_EQ(all.front().name, "max_storage_range");
  EXPECT_EQ(all.back().name, "global_priority");
}

}  // namespace
}  // namespace tessera
