// Runs the program as a user does and keeps what it says.
#pragma once

#include <string>
#include <vector>

namespace grist::test {

struct Outcome {
  int code = -1;  // exit code; 128 + signal where a signal ended it; 124 where it did not end by itself
  std::string out;
  std::string err;
  bool all_gone = false;  // whether 2 seconds later at most no process that it started was left
};

/// A command of words, with `input` on its stdin. What it started is killed after `seconds`.
Outcome run_command(const std::vector<std::string>& words, const std::string& input = "", int seconds = 60);

/// `grist ARGUMENTS`, on so many ranks.
Outcome grist(const std::vector<std::string>& arguments, int ranks = 1, const std::string& input = "");

}  // namespace grist::test
