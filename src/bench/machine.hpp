// What the machine can do, measured on all ranks at the same time.
#pragma once

#include <grist/bench/result.hpp>
#include <grist/comm/communicator.hpp>

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace grist::bench {

/// Read bandwidth, triad and GEMM rates of all ranks together; with two or more ranks also messages between the first
/// two: half the time of a small one there and back, and bytes per second of large ones. Collective.
Machine measure_machine(const Exec& exec, const Communicator& ranks, std::string_view gemm);

/// Bytes per second of one file of so many bytes in a folder, by the first rank: written and synced; read back after
/// the system was asked to forget it. The file is removed. Throws InputError where it cannot be written.
struct DiskRates {
  double write = 0, read = 0;
};
DiskRates measure_disk(const std::filesystem::path& folder, std::uint64_t bytes);

/// Asks the system to forget what it holds of a file in memory.
void forget(const std::filesystem::path& file);

}  // namespace grist::bench
