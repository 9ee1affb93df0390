#include <grist/backends/device.hpp>

#include <grist/core/philox.hpp>

namespace grist {

int memory_hash(const DeviceFacts& facts) { return static_cast<int>(hash_name(facts.identity) >> 33); }

}  // namespace grist
