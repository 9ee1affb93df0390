// What grist never does to a checkpoint, done by the HDF5 library itself.
#pragma once

#include <hdf5.h>

#include <filesystem>
#include <stdexcept>
#include <string>

namespace grist::test {

inline hid_t checked(hid_t id) {
  if (id < 0) throw std::runtime_error("HDF5 failed");
  return id;
}

inline void remove_object(const std::filesystem::path& file, const std::string& name) {
  const hid_t id = checked(H5Fopen(file.c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
  checked(H5Ldelete(id, name.c_str(), H5P_DEFAULT));
  checked(H5Fclose(id));
}

inline void rename_object(const std::filesystem::path& file, const std::string& from, const std::string& to) {
  const hid_t id = checked(H5Fopen(file.c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
  checked(H5Lmove(id, from.c_str(), id, to.c_str(), H5P_DEFAULT, H5P_DEFAULT));
  checked(H5Fclose(id));
}

/// First byte of a tensor's numbers in the file.
inline std::size_t place_of(const std::filesystem::path& file, const std::string& name) {
  const hid_t id = checked(H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
  const hid_t dataset = checked(H5Dopen2(id, name.c_str(), H5P_DEFAULT));
  const haddr_t place = H5Dget_offset(dataset);
  checked(H5Dclose(dataset));
  checked(H5Fclose(id));
  return place;
}

}  // namespace grist::test
