#include "output_file.hpp"

#include <grist/core/errors.hpp>

#include <filesystem>
#include <system_error>

namespace grist::cli {

void expect_no_input(const std::string& output, const char* option, const std::vector<std::string>& inputs) {
  for (const std::string& input : inputs) {
    std::error_code absent;  // what is not there is not the same
    if (std::filesystem::equivalent(output, input, absent))
      throw InputError("{}: is an input of this command; give {} another file", output, option);
  }
}

}  // namespace grist::cli
