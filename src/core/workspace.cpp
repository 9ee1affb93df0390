#include <grist/core/workspace.hpp>

#include <grist/core/errors.hpp>

#include <cstdlib>
#include <limits>

namespace grist {

Workspace::Workspace(std::size_t bytes)
    : arena_("workspace", static_cast<Index>(bytes)), poison_([] {
        const char* value = std::getenv("GRIST_WORKSPACE_POISON");
        return value != nullptr && std::string_view(value) == "1";
      }()) {}

void* Workspace::take_bytes(const Exec& exec, std::string_view name, std::size_t bytes) {
  if (bytes > capacity() - used_) {
    throw MemoryError("workspace: '{}' wants {} bytes, {} of {} are left", name, bytes, capacity() - used_, capacity());
  }
  std::byte* piece = arena_.data() + used_;
  used_ += bytes;
  if (poison_) {
    View1<float> floats(reinterpret_cast<float*>(piece), bytes / sizeof(float));
    Kokkos::parallel_for(
        "grist::workspace::poison", Kokkos::RangePolicy<Exec>(exec, 0, floats.extent(0)),
        KOKKOS_LAMBDA(Index i) { floats(i) = std::numeric_limits<float>::quiet_NaN(); });
  }
  return piece;
}

}  // namespace grist
