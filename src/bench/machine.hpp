// What the machine can do, measured on all ranks at the same time.
#pragma once

#include <grist/bench/result.hpp>
#include <grist/comm/communicator.hpp>

#include <cstdint>
#include <filesystem>
#include <vector>

namespace grist::bench {

/// Read bandwidth, triad and GEMM rates (of the fastest provider) of all ranks together; with two or more ranks also
/// messages between the first two: half the time of a small one there and back, and bytes per second of large ones.
/// Collective.
Machine measure_machine(const Exec& exec, const Communicator& ranks);

/// A file that measures a disk, removed at the end. Throws InputError where it cannot be written or read.
class DiskFile {
public:
  DiskFile(std::filesystem::path path, std::uint64_t bytes);
  ~DiskFile();
  DiskFile(const DiskFile&) = delete;
  DiskFile& operator=(const DiskFile&) = delete;

  /// Writes and syncs it.
  void write() const;
  /// Reads it, after the system was asked to forget it.
  void read();

private:
  std::filesystem::path path_;
  std::uint64_t bytes_;
  std::vector<char> block_;
};

/// Asks the system to forget what it holds of a file in memory.
void forget(const std::filesystem::path& file);

}  // namespace grist::bench
