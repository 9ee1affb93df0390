// What a piece of code asks of Kokkos, seen through its Tools callbacks: kernels, fences, allocations, copies.
#pragma once

#include <cstdint>
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

/// Bytes of Buffers that there were, from its construction to its destruction; one at a time, and none beside a
/// ToolsRecorder.
class MemoryMeter {
public:
  MemoryMeter();
  ~MemoryMeter();
  MemoryMeter(const MemoryMeter&) = delete;
  MemoryMeter& operator=(const MemoryMeter&) = delete;

  std::uint64_t most = 0;  // at once
  std::uint64_t now = 0;
};

}  // namespace grist::test
