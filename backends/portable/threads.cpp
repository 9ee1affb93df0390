// A host with one thread: nothing to choose or to bind.
#include <grist/backends/threads.hpp>

namespace grist {

int choose_threads(int) { return 1; }
int threads_that_come(int wanted) { return wanted; }
void check_threads() {}
void bind_threads(int, int) {}
int affinity_hash() { return 0; }
std::string processors_of_threads() { return {}; }

}  // namespace grist
