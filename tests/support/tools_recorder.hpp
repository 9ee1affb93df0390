// What a piece of code asks of Kokkos, seen through its Tools callbacks: kernels, fences, allocations, copies.
#pragma once

#include <string>
#include <vector>

namespace grist::test {

/// Records from its construction to its destruction; one at a time.
class ToolsRecorder {
public:
  ToolsRecorder();
  ~ToolsRecorder();
  ToolsRecorder(const ToolsRecorder&) = delete;
  ToolsRecorder& operator=(const ToolsRecorder&) = delete;

  std::vector<std::string> kernels;      // labels, in the order of their launch
  std::vector<std::string> fences;       // names
  std::vector<std::string> allocations;  // labels
  std::vector<std::string> copies;       // "destination <- source"
  std::vector<std::string> regions;      // in the order of their begin
};

}  // namespace grist::test
