#include <grist/core/si_prefix.hpp>

#include <gtest/gtest.h>

namespace {

using grist::with_prefix;

TEST(WithPrefix, KeepsThreeDigits) {
  EXPECT_EQ(with_prefix(41.23e9, "B/s"), "41.2 GB/s");
  EXPECT_EQ(with_prefix(2.5e-6, "s"), "2.5 us");
  EXPECT_EQ(with_prefix(999.4e9, "B/s"), "999 GB/s");
  EXPECT_EQ(with_prefix(999.6e9, "B/s"), "1 TB/s");
  EXPECT_EQ(with_prefix(0, "s"), "0 s");
}

}  // namespace
