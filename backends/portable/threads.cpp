// A host with one thread, or a device: nothing to choose or to bind.
#include <grist/backends/threads.hpp>

namespace grist {

int choose_threads(int) { return 1; }
void bind_threads(int, int) {}
int affinity_hash() { return 0; }

}  // namespace grist
