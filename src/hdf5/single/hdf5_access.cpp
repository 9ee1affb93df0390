#include <grist/hdf5/hdf5_access.hpp>

#include <grist/core/errors.hpp>

namespace grist::io {

void check_access_hints(const std::string& hints) {
  if (!hints.empty()) throw UsageError("MPI-IO hint '{}': this grist was built without MPI", hints);
}

herr_t set_shared_access(hid_t, hid_t, CommHandle, const std::string& hints) {
  check_access_hints(hints);
  return 0;
}

bool is_first_rank(CommHandle) { return true; }

}  // namespace grist::io
