// Errors: each kind has the exit code that the command line promises, and its message is what was written.
#include <grist/core/errors.hpp>

#include <gtest/gtest.h>

namespace {

using namespace grist;

template <class Exception>
int code_when_caught(const Exception& thrown) {
  try {
    throw thrown;
  } catch (const Error& error) {
    return static_cast<int>(error.code());
  }
}

TEST(Errors, HaveTheirExitCodes) {
  EXPECT_EQ(code_when_caught(InternalError("x")), 1);
  EXPECT_EQ(code_when_caught(ShapeError("x")), 1);
  EXPECT_EQ(code_when_caught(UsageError("x")), 2);
  EXPECT_EQ(code_when_caught(InputError("x")), 3);
  EXPECT_EQ(code_when_caught(MemoryError("x")), 4);
  EXPECT_EQ(code_when_caught(NumericalError("x")), 5);
}

TEST(Errors, FormatTheirMessage) {
  EXPECT_STREQ(InputError("{}: expected {}, found {}", "file", 1, 2.5).what(), "file: expected 1, found 2.5");
  EXPECT_STREQ(ShapeError("x {} against y {}", 3, 4).what(), "x 3 against y 4");
}

TEST(Errors, LeaveBracesOfAReadyMessageAlone) {
  const std::string from_a_file = "{} {not a format}";
  EXPECT_STREQ(InputError(from_a_file).what(), "{} {not a format}");
}

TEST(Errors, AreStandardExceptions) { EXPECT_THROW(throw UsageError("x"), std::runtime_error); }

}  // namespace
