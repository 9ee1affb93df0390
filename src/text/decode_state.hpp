// What a decoder holds back between two ids.
#pragma once

#include <string>
#include <vector>

namespace grist::text {

/// Of one step: bytes of a character, or of a run of bytes, that is not complete; and what it has counted.
struct DecodeStepState {
  std::string held{};
  int count = 0;
};
using DecodeState = std::vector<DecodeStepState>;

}  // namespace grist::text
