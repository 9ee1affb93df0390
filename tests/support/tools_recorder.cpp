#include <support/tools_recorder.hpp>

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace grist::test {
namespace {

namespace tools = Kokkos::Tools::Experimental;

ToolsRecorder* recorder = nullptr;  // the callbacks are plain functions

void on_kernel(const char* label, std::uint32_t, std::uint64_t*) { recorder->kernels.emplace_back(label); }
void on_fence(const char* name, std::uint32_t, std::uint64_t*) {
  const bool of_tools = std::string_view(name).find("Kokkos Profile Tool Fence") != std::string_view::npos;
  if (!of_tools) recorder->fences.emplace_back(name);  // Kokkos itself fences around each callback
}
void on_allocation(Kokkos_Profiling_SpaceHandle, const char* label, const void*, std::uint64_t bytes) {
  if (bytes > 0) recorder->allocations.emplace_back(label);  // Kokkos reports 0 bytes at each launch of teams
}
void on_copy(Kokkos_Profiling_SpaceHandle, const char* to, const void*, Kokkos_Profiling_SpaceHandle, const char* from,
             const void*, std::uint64_t) {
  recorder->copies.push_back(std::string(to) + " <- " + from);
}

void on_region(const char* name) { recorder->regions.emplace_back(name); }

MemoryMeter* meter = nullptr;

/// Kokkos' threads have some memory of their own, whatever runs, and tell of it under changing labels.
bool ours(std::string_view label) { return label.starts_with("grist::"); }

void on_bytes(Kokkos_Profiling_SpaceHandle, const char* label, const void*, std::uint64_t bytes) {
  if (!ours(label)) return;
  meter->now += bytes;
  meter->most = std::max(meter->most, meter->now);
}
void on_bytes_given_back(Kokkos_Profiling_SpaceHandle, const char* label, const void*, std::uint64_t bytes) {
  if (!ours(label)) return;
  meter->now -= std::min(meter->now, bytes);  // what was taken before the meter is not counted
}

}  // namespace

MemoryMeter::MemoryMeter() {
  meter = this;
  tools::set_allocate_data_callback(on_bytes);
  tools::set_deallocate_data_callback(on_bytes_given_back);
}

MemoryMeter::~MemoryMeter() {
  tools::set_allocate_data_callback(nullptr);
  tools::set_deallocate_data_callback(nullptr);
  meter = nullptr;
}

ToolsRecorder::ToolsRecorder() {
  recorder = this;
  tools::set_begin_parallel_for_callback(on_kernel);
  tools::set_begin_parallel_reduce_callback(on_kernel);
  tools::set_begin_parallel_scan_callback(on_kernel);
  tools::set_begin_fence_callback(on_fence);
  tools::set_allocate_data_callback(on_allocation);
  tools::set_begin_deep_copy_callback(on_copy);
  tools::set_push_region_callback(on_region);
}

ToolsRecorder::~ToolsRecorder() {
  tools::set_begin_parallel_for_callback(nullptr);
  tools::set_begin_parallel_reduce_callback(nullptr);
  tools::set_begin_parallel_scan_callback(nullptr);
  tools::set_begin_fence_callback(nullptr);
  tools::set_allocate_data_callback(nullptr);
  tools::set_begin_deep_copy_callback(nullptr);
  tools::set_push_region_callback(nullptr);
  recorder = nullptr;
}

}  // namespace grist::test
