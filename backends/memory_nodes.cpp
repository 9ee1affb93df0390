#include <grist/backends/threads.hpp>

#include <fstream>

namespace grist {

bool one_memory_node() {
  std::string nodes;  // as "0" or "0-1,4"
  std::ifstream("/sys/devices/system/node/has_memory") >> nodes;
  return nodes.find_first_of(",-") == std::string::npos;
}

}  // namespace grist
