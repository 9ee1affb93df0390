// What a command must not do to its own inputs.
#pragma once

#include <string>
#include <vector>

namespace grist::cli {

/// Throws InputError where `output`, of the option so called, is one of the inputs, by whatever name.
void expect_no_input(const std::string& output, const char* option, const std::vector<std::string>& inputs);

}  // namespace grist::cli
