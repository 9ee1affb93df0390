#include <grist/core/workspace.hpp>

#include <grist/core/errors.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

namespace grist {
namespace {

void poison(const Exec& exec, View1<std::uint64_t> words) {
  Kokkos::parallel_for("grist::workspace::poison", Indices<Exec>(exec, 0, words.extent(0)),
                       KOKKOS_LAMBDA(Index i) { words(i) = ~std::uint64_t{0}; });
}

}  // namespace

Workspace::Workspace(std::size_t bytes)
    : arena_("workspace", static_cast<Index>(bytes)), poison_([] {
        const char* value = std::getenv("GRIST_WORKSPACE_POISON");
        return value != nullptr && std::string_view(value) == "1";
      }()) {}

Workspace Workspace::counting() {
  Workspace workspace;
  workspace.counting_ = true;
  return workspace;
}

void* Workspace::take_bytes(const Exec& exec, std::string_view name, std::size_t bytes) {
  if (counting_) {
    used_ += bytes;
    peak_ = std::max(peak_, used_);
    return nullptr;
  }
  if (bytes > capacity() - used_) {
    throw MemoryError("workspace: '{}' wants {} bytes, {} of {} are left", name, bytes, capacity() - used_, capacity());
  }
  std::byte* piece = arena_.data() + used_;
  used_ += bytes;
  peak_ = std::max(peak_, used_);
  if (poison_) {
    // All bits set are NaN in every type, of 16 bits too.
    poison(exec, View1<std::uint64_t>(reinterpret_cast<std::uint64_t*>(piece), bytes / sizeof(std::uint64_t)));
  }
  return piece;
}

}  // namespace grist
