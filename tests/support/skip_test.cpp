// A binary of which one test passes and one is skipped; CMakeLists.txt expects its exit code to say so.
#include <gtest/gtest.h>

TEST(Skip, OneTestPasses) { SUCCEED(); }
TEST(Skip, AnotherIsSkipped) { GTEST_SKIP() << "so that the exit code is 77"; }
