#include <grist/hdf5/hdf5_access.hpp>

#include <grist/core/errors.hpp>

#include <sstream>

namespace grist::io {
namespace {

/// MPI's list of hints.
class Info {
public:
  explicit Info(const std::string& hints) {
    if (MPI_Info_create(&info_) != MPI_SUCCESS) throw InternalError("MPI_Info_create failed");
    std::istringstream words(hints);
    for (std::string hint; std::getline(words, hint, ';');) {
      if (hint.empty()) continue;
      const auto equals = hint.find('=');
      if (equals == 0 || equals == std::string::npos)
        throw UsageError("MPI-IO hint '{}': expected key=value;key=value", hint);
      const std::string key = hint.substr(0, equals), value = hint.substr(equals + 1);
      if (key.size() >= MPI_MAX_INFO_KEY || value.size() >= MPI_MAX_INFO_VAL)
        throw UsageError("MPI-IO hint '{}...': is longer than MPI takes", hint.substr(0, 32));
      if (MPI_Info_set(info_, key.c_str(), value.c_str()) != MPI_SUCCESS)
        throw UsageError("MPI-IO hint '{}': MPI does not take it", hint);
    }
  }
  ~Info() { MPI_Info_free(&info_); }
  Info(const Info&) = delete;
  Info& operator=(const Info&) = delete;
  operator MPI_Info() const { return info_; }

private:
  MPI_Info info_ = MPI_INFO_NULL;
};

}  // namespace

void check_access_hints(const std::string& hints) { const Info info(hints); }

herr_t set_shared_access(hid_t access, hid_t transfer, CommHandle comm, const std::string& hints) {
  const Info info(hints);
  int ranks = 1;
  if (MPI_Comm_size(comm, &ranks) != MPI_SUCCESS) throw InternalError("MPI_Comm_size failed");
  if (ranks == 1) return 0;
  for (const herr_t status :
       {H5Pset_fapl_mpio(access, comm, info), H5Pset_all_coll_metadata_ops(access, true),
        H5Pset_coll_metadata_write(access, true), H5Pset_dxpl_mpio(transfer, H5FD_MPIO_COLLECTIVE)})
    if (status < 0) return status;
  return 0;
}

bool is_first_rank(CommHandle comm) {
  int rank = 0;
  if (MPI_Comm_rank(comm, &rank) != MPI_SUCCESS) throw InternalError("MPI_Comm_rank failed");
  return rank == 0;
}

}  // namespace grist::io
