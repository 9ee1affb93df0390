// What a refusal must look like.
#pragma once

#include <grist/core/errors.hpp>

#include <gmock/gmock.h>

#include <string>
#include <vector>

namespace grist::test {

/// Matches a call that throws an Error of one line that holds all these words.
template <class Exception = InputError>
auto Refuses(const std::vector<std::string>& words) {
  std::vector<testing::Matcher<std::string>> parts = {testing::Not(testing::HasSubstr("\n"))};
  for (const std::string& word : words) parts.push_back(testing::HasSubstr(word));
  return testing::ThrowsMessage<Exception>(testing::AllOfArray(parts));
}

/// The message of the ShapeError that f throws; "no error" where it throws none.
template <class F>
std::string refusal(F&& f) {
  try {
    f();
    return "no error";
  } catch (const ShapeError& error) {
    return error.what();
  }
}

}  // namespace grist::test
