// A folder's tests are one program, of which ctest runs one source at a time.
#pragma once

#include <gtest/gtest.h>

#include <fnmatch.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <string_view>

namespace grist::test {

/// Keeps the tests of NAME.cpp where `--source=NAME` asks for them, of which --gtest_filter may leave out some. Ends
/// the program where nothing is left. Called between InitGoogleTest and RUN_ALL_TESTS.
inline void keep_only_source(int argc, const char* const* argv) {
  constexpr std::string_view option = "--source=";
  std::string source;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word(argv[i]);
    if (word.starts_with(option) && word != option) {
      source = word.substr(option.size());
    } else if (word.starts_with("--source")) {
      std::fprintf(stderr, "--source=NAME keeps the tests of NAME.cpp; it is '%s'\n", argv[i]);
      std::exit(2);
    }
  }
  if (source.empty()) return;
  const std::string filter = GTEST_FLAG_GET(filter);
  const auto dash = std::min(filter.find('-'), filter.size());
  const std::string wanted = dash == 0 ? "*" : filter.substr(0, dash);
  const auto matches = [&](const std::string& test) {
    std::istringstream patterns(wanted);
    for (std::string pattern; std::getline(patterns, pattern, ':');) {
      if (fnmatch(pattern.c_str(), test.c_str(), 0) == 0) return true;
    }
    return false;
  };
  std::string kept;
  const auto& all = *testing::UnitTest::GetInstance();
  for (int s = 0; s < all.total_test_suite_count(); ++s) {
    const auto& suite = *all.GetTestSuite(s);
    for (int t = 0; t < suite.total_test_count(); ++t) {
      const auto& test = *suite.GetTestInfo(t);
      const std::string name = std::string(suite.name()) + "." + test.name();
      if (std::filesystem::path(test.file()).stem() == source && matches(name)) kept += name + ":";
    }
  }
  if (kept.empty()) {
    std::fprintf(stderr, "no test of %s.cpp is %s\n", source.c_str(), filter.c_str());
    std::exit(1);
  }
  GTEST_FLAG_SET(filter, kept + filter.substr(dash));
}

}  // namespace grist::test
