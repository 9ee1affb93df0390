// How ranks come to one HDF5 file: by MPI-IO, or alone. mpi/ and single/ hold the two; CMake picks the folder.
#pragma once

#include <grist/comm/handle.hpp>

#include <hdf5.h>

#include <string>

namespace grist::io {

/// Throws UsageError for hints that are not "key=value;key=value", or longer than MPI takes.
void check_access_hints(const std::string& hints);

/// Sets the property lists of a new file's access and of its transfers. Negative where the library refuses. Throws as
/// check_access_hints does.
herr_t set_shared_access(hid_t access, hid_t transfer, CommHandle comm, const std::string& hints);

/// Whether this is the first of the ranks.
bool is_first_rank(CommHandle comm);

}  // namespace grist::io
