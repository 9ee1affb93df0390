#include <grist/backends/threads.hpp>

#include <fstream>
#include <memory>

#include <sys/mman.h>

namespace grist {

bool one_memory_node() {
  static const bool one = [] {
    std::string nodes;  // as "0" or "0-1,4"
    std::ifstream("/sys/devices/system/node/has_memory") >> nodes;
    return nodes.find_first_of(",-") == std::string::npos;
  }();
  return one;
}

void prefer_large_pages([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr std::size_t page = 1 << 21;
  if (one_memory_node() && std::align(page, page, memory, bytes) != nullptr)
    (void)::madvise(memory, bytes / page * page, MADV_HUGEPAGE);
#endif
}

}  // namespace grist
