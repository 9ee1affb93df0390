#include <grist/hdf5/hdf5_file.hpp>

#include <grist/core/errors.hpp>
#include <grist/hdf5/hdf5_access.hpp>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <limits>
#include <numeric>

namespace grist::io {
namespace {

static_assert(std::is_same_v<hid_t, std::int64_t>);

/// While there is one, the library prints nothing.
class Quiet {
public:
  Quiet() {
    H5Eget_auto2(H5E_DEFAULT, &print_, &data_);
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  }
  ~Quiet() { H5Eset_auto2(H5E_DEFAULT, print_, data_); }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;

private:
  H5E_auto2_t print_ = nullptr;
  void* data_ = nullptr;
};

/// What went wrong deepest in the library, in one line.
std::string reason() {
  std::string text;
  const auto take = [](unsigned, const H5E_error2_t* error, void* to) -> herr_t {
    if (error->desc != nullptr) *static_cast<std::string*>(to) = error->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, take, &text);
  H5Eclear2(H5E_DEFAULT);
  // MPI's reasons are several lines, of which the last one says why.
  while (text.ends_with('\n')) text.pop_back();
  if (const auto line = text.rfind('\n'); line != std::string::npos) text.erase(0, line + 1);
  return text.empty() ? "HDF5 says no more" : text;
}

/// A file, and the object in it that is dealt with, for errors.
struct Place {
  const std::string& path;
  const std::string& object;

  template <class Status>
  Status check(Status status, const char* what) const {
    if (status < 0) throw InputError("{}: '{}' {}: {}", path, object, what, reason());
    return status;
  }
  Hdf5Id own(hid_t id, Hdf5Id::Close close, const char* what) const { return {check(id, what), close}; }
};

/// The bfloat16 of HDF5 2, or what that is for versions that do not name it.
hid_t make_bfloat16() {
#ifdef H5T_FLOAT_BFLOAT16LE
  return H5Tcopy(H5T_FLOAT_BFLOAT16LE);
#else
  const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
  if (H5Tset_fields(type, 15, 7, 8, 0, 7) < 0 || H5Tset_size(type, 2) < 0 || H5Tset_ebias(type, 127) < 0) return -1;
  return type;
#endif
}

Hdf5Id make_type(DType type, const Place& place) {
  return place.own(type == DType::f32    ? H5Tcopy(H5T_IEEE_F32LE)
                   : type == DType::bf16 ? make_bfloat16()
                                         : H5Tcopy(H5T_IEEE_F16LE),
                   H5Tclose, "type cannot be made");
}

std::vector<hsize_t> sizes(const std::vector<Index>& values) { return {values.begin(), values.end()}; }

Hdf5Id open_object(const Hdf5Id& file, const Place& place) {
  return place.own(H5Oopen(file.get(), place.object.c_str(), H5P_DEFAULT), H5Oclose, "cannot be opened");
}
Hdf5Id open_dataset(const Hdf5Id& file, const Place& place) {
  return place.own(H5Dopen2(file.get(), place.object.c_str(), H5P_DEFAULT), H5Dclose, "cannot be opened");
}

/// The file's elements of a transfer and as many in memory, which lie one after the other.
struct Selection {
  Hdf5Id file, memory;

  Selection(const Hdf5Id& dataset, std::span<const Hyperslab> boxes, const Place& place)
      : file(place.own(H5Dget_space(dataset.get()), H5Sclose, "has no shape")) {
    hsize_t elements = 0;
    if (boxes.empty()) place.check(H5Sselect_none(file.get()), "cannot be selected");
    for (const Hyperslab& box : boxes) {
      const auto start = sizes(box.start), count = sizes(box.count);
      place.check(H5Sselect_hyperslab(file.get(), elements == 0 ? H5S_SELECT_SET : H5S_SELECT_OR, start.data(), nullptr,
                                      count.data(), nullptr),
                  "cannot be selected");
      elements += std::accumulate(count.begin(), count.end(), hsize_t{1}, std::multiplies());
    }
    if (static_cast<hsize_t>(H5Sget_select_npoints(file.get())) != elements)
      throw InternalError("{}: '{}': boxes overlap", place.path, place.object);
    const hsize_t size = std::max<hsize_t>(elements, 1);
    memory = place.own(H5Screate_simple(1, &size, nullptr), H5Sclose, "has no room in memory");
    if (elements == 0) place.check(H5Sselect_none(memory.get()), "cannot be selected");
  }
};

const std::string root = "/";

/// The later of two for one key counts.
std::string with_site_hints(const std::string& hints) {
  const char* const site = std::getenv("GRIST_MPIIO_HINTS");
  return (site == nullptr ? "" : site) + (';' + hints);
}

}  // namespace

void check_hints(const std::string& hints) { check_access_hints(with_site_hints(hints)); }

int Hdf5Id::close() {
  if (id_ < 0) return 0;
  const Quiet quiet;
  return close_(std::exchange(id_, -1));
}

Hdf5File Hdf5File::create(const std::filesystem::path& path, CommHandle comm, const std::string& hints) {
  const Quiet quiet;
  const std::string name = path.string();
  const Place place{name, root};
  const auto access = place.own(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "cannot be made");
  auto transfer = place.own(H5Pcreate(H5P_DATASET_XFER), H5Pclose, "cannot be made");
  place.check(set_shared_access(access.get(), transfer.get(), comm, with_site_hints(hints)), "cannot be shared");
  // Format 1.10 has checksums over all that is not numbers. Large tensors begin where blocks of file systems do.
  place.check(H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_V110), "has no such format");
  place.check(H5Pset_alignment(access.get(), 1 << 20, 1 << 16), "cannot be aligned");
  place.check(H5Pset_meta_block_size(access.get(), 1 << 16), "cannot be arranged");
  // Where the file system has no locks: without.
  place.check(H5Pset_file_locking(access.get(), true, true), "cannot be locked");
  place.check(H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG), "cannot be arranged");
  auto file = place.own(H5Fcreate(name.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get()), H5Fclose, "cannot be made");
  return {name, std::move(file), std::move(transfer), is_first_rank(comm)};
}

Hdf5File Hdf5File::open(const std::filesystem::path& path) {
  const Quiet quiet;
  const std::string name = path.string();
  const Place place{name, root};
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error))
    throw InputError("{}: {}", name, error ? error.message() : "is no file");
  const auto access = place.own(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "cannot be made");
  place.check(H5Pset_file_locking(access.get(), false, true), "cannot be opened");
  place.check(H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG), "cannot be opened");
  Hdf5Id file(H5Fopen(name.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose);
  if (file.get() < 0) throw InputError("{}: is no complete HDF5 file: {}", name, reason());
  return {name, std::move(file), place.own(H5Pcreate(H5P_DATASET_XFER), H5Pclose, "cannot be opened"), true};
}

std::uint64_t Hdf5File::bytes() const {
  std::error_code error;
  const auto size = std::filesystem::file_size(path_, error);
  if (error) throw InputError("{}: has no size: {}", path_, error.message());
  return size;
}

void Hdf5File::make_group(const std::string& name) {
  const Quiet quiet;
  const Place place{path_, name};
  const auto links = place.own(H5Pcreate(H5P_LINK_CREATE), H5Pclose, "cannot be made");
  place.check(H5Pset_create_intermediate_group(links.get(), 1), "cannot be made");
  place.own(H5Gcreate2(file_.get(), name.c_str(), links.get(), H5P_DEFAULT, H5P_DEFAULT), H5Gclose, "cannot be made");
}

void Hdf5File::make_tensor(const std::string& name, const Hdf5Tensor& tensor) {
  const Quiet quiet;
  const Place place{path_, name};
  const auto shape = sizes(tensor.shape);
  const auto space =
      place.own(H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr), H5Sclose, "has no such shape");
  const auto layout = place.own(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, "cannot be made");
  place.check(H5Pset_layout(layout.get(), H5D_CONTIGUOUS), "cannot be made");
  place.check(H5Pset_alloc_time(layout.get(), H5D_ALLOC_TIME_EARLY), "cannot be made");
  place.check(H5Pset_fill_time(layout.get(), H5D_FILL_TIME_NEVER), "cannot be made");
  place.own(H5Dcreate2(file_.get(), name.c_str(), make_type(tensor.type, place).get(), space.get(), H5P_DEFAULT,
                       layout.get(), H5P_DEFAULT),
            H5Dclose, "cannot be made");
}

void Hdf5File::write_text(const std::string& name, const std::string& text) {
  const Quiet quiet;
  const Place place{path_, name};
  const auto type = place.own(H5Tcopy(H5T_C_S1), H5Tclose, "cannot be made");
  place.check(H5Tset_size(type.get(), text.size() + 1), "cannot be made");
  place.check(H5Tset_cset(type.get(), H5T_CSET_UTF8), "cannot be made");
  const auto space = place.own(H5Screate(H5S_SCALAR), H5Sclose, "cannot be made");
  const auto dataset = place.own(
      H5Dcreate2(file_.get(), name.c_str(), type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Dclose,
      "cannot be made");
  if (!first_rank_) place.check(H5Sselect_none(space.get()), "cannot be written");
  place.check(H5Dwrite(dataset.get(), type.get(), space.get(), space.get(), transfer_.get(), text.c_str()),
              "cannot be written");
}

void Hdf5File::write_attribute(const std::string& object, const std::string& name, std::int64_t type,
                               const void* value) {
  const Quiet quiet;
  const Place place{path_, object};
  const auto owner = open_object(file_, place);
  const bool there = place.check(H5Aexists(owner.get(), name.c_str()), "has unreadable attributes") > 0;
  const auto space = place.own(H5Screate(H5S_SCALAR), H5Sclose, "takes no attribute");
  const auto attribute =
      place.own(there ? H5Aopen(owner.get(), name.c_str(), H5P_DEFAULT)
                      : H5Acreate2(owner.get(), name.c_str(), type, space.get(), H5P_DEFAULT, H5P_DEFAULT),
                H5Aclose, "takes no attribute");
  place.check(H5Awrite(attribute.get(), type, value), "takes no attribute");
}

void Hdf5File::write_attribute(const std::string& object, const std::string& name, std::int64_t value) {
  write_attribute(object, name, H5T_STD_I64LE, &value);
}
void Hdf5File::write_attribute(const std::string& object, const std::string& name, double value) {
  write_attribute(object, name, H5T_IEEE_F64LE, &value);
}

void Hdf5File::write(std::span<const Hdf5Part> parts) {
  const Quiet quiet;
  std::vector<Hdf5Id> datasets, types;
  std::vector<Selection> selections;
  std::vector<hid_t> ids, type_ids, memory, file;
  std::vector<const void*> data;
  for (const Hdf5Part& part : parts) {
    const Place place{path_, part.tensor};
    if (std::ranges::count(parts, part.tensor, &Hdf5Part::tensor) > 1)  // the library would hang
      throw InternalError("{}: '{}' is written in two parts at once", path_, part.tensor);
    datasets.push_back(open_dataset(file_, place));
    types.push_back(place.own(H5Dget_type(datasets.back().get()), H5Tclose, "has no type"));
    selections.emplace_back(datasets.back(), part.boxes, place);
    ids.push_back(datasets.back().get());
    type_ids.push_back(types.back().get());
    memory.push_back(selections.back().memory.get());
    file.push_back(selections.back().file.get());
    data.push_back(part.data);
  }
  if (parts.empty()) return;
  Place{path_, parts.front().tensor}.check(
      H5Dwrite_multi(ids.size(), ids.data(), type_ids.data(), memory.data(), file.data(), transfer_.get(), data.data()),
      "cannot be written");
}

void Hdf5File::flush() {
  const Quiet quiet;
  Place{path_, root}.check(H5Fflush(file_.get(), H5F_SCOPE_GLOBAL), "cannot be written");
}

void Hdf5File::close() {
  const Quiet quiet;
  Place{path_, root}.check(file_.close(), "cannot be written");
}

bool Hdf5File::has(const std::string& name) const {
  const Quiet quiet;
  for (auto slash = name.find('/', 1);; slash = name.find('/', slash + 1)) {  // what lies above must be there too
    if (H5Lexists(file_.get(), name.substr(0, slash).c_str(), H5P_DEFAULT) <= 0) return H5Eclear2(H5E_DEFAULT), false;
    if (slash == std::string::npos) return true;
  }
}

std::vector<std::string> Hdf5File::names_in(const std::string& group) const {
  if (group != root && !has(group)) return {};
  const Quiet quiet;
  const Place place{path_, group};
  std::vector<std::string> names;
  const auto take = [](hid_t, const char* name, const H5L_info2_t*, void* to) -> herr_t {
    static_cast<std::vector<std::string>*>(to)->emplace_back(name);
    return 0;
  };
  const auto opened = place.own(H5Gopen2(file_.get(), group.c_str(), H5P_DEFAULT), H5Gclose, "is no group");
  place.check(H5Literate2(opened.get(), H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, take, &names), "cannot be listed");
  std::ranges::sort(names);
  return names;
}

std::vector<std::string> Hdf5File::attributes_of(const std::string& object) const {
  const Quiet quiet;
  const Place place{path_, object};
  std::vector<std::string> names;
  const auto take = [](hid_t, const char* name, const H5A_info_t*, void* to) -> herr_t {
    static_cast<std::vector<std::string>*>(to)->emplace_back(name);
    return 0;
  };
  const auto owner = open_object(file_, place);
  place.check(H5Aiterate2(owner.get(), H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, take, &names), "cannot be listed");
  std::ranges::sort(names);
  return names;
}

bool Hdf5File::is_group(const std::string& name) const {
  const Quiet quiet;
  return H5Iget_type(open_object(file_, {path_, name}).get()) == H5I_GROUP;
}

Hdf5Tensor Hdf5File::tensor(const std::string& name) const {
  const Quiet quiet;
  const Place place{path_, name};
  const auto dataset = open_dataset(file_, place);
  const auto stored = place.own(H5Dget_type(dataset.get()), H5Tclose, "has no type");
  const auto space = place.own(H5Dget_space(dataset.get()), H5Sclose, "has no shape");
  const auto layout = place.own(H5Dget_create_plist(dataset.get()), H5Pclose, "has no layout");
  Hdf5Tensor tensor;
  const auto is = [&](DType type) {
    tensor.type = type;
    return place.check(H5Tequal(stored.get(), make_type(type, place).get()), "has no type") > 0;
  };
  if (!is(DType::bf16) && !is(DType::f16) && !is(DType::f32))
    throw InputError("{}: '{}' is of another type, expected f32, bf16 or f16 numbers", path_, name);
  const int dimensions = place.check(H5Sget_simple_extent_ndims(space.get()), "has no shape");
  std::vector<hsize_t> shape(static_cast<std::size_t>(dimensions));
  place.check(H5Sget_simple_extent_dims(space.get(), shape.data(), nullptr), "has no shape");
  // Extents of a broken file may be anything: their product is held to what the file can hold.
  const hsize_t most = bytes() / size_of(tensor.type);
  hsize_t elements = 1;
  for (const hsize_t extent : shape) {
    if (extent == 0 || extent > most / elements)
      throw InputError("{}: '{}' has a shape that {} bytes of file cannot hold", path_, name, bytes());
    elements *= extent;
    tensor.shape.push_back(static_cast<Index>(extent));
  }
  if (H5Pget_layout(layout.get()) != H5D_CONTIGUOUS || H5Pget_external_count(layout.get()) != 0 || dimensions == 0 ||
      H5Dget_storage_size(dataset.get()) != elements * size_of(tensor.type))
    throw InputError("{}: '{}' is not stored in one piece", path_, name);
  return tensor;
}

std::string Hdf5File::read_text(const std::string& name) const {
  const Quiet quiet;
  const Place place{path_, name};
  const auto dataset = open_dataset(file_, place);
  const auto type = place.own(H5Dget_type(dataset.get()), H5Tclose, "has no type");
  const auto space = place.own(H5Dget_space(dataset.get()), H5Sclose, "has no shape");
  const std::size_t size = H5Tget_size(type.get());
  if (H5Tget_class(type.get()) != H5T_STRING || H5Tis_variable_str(type.get()) != 0 ||
      H5Sget_simple_extent_npoints(space.get()) != 1 || H5Dget_storage_size(dataset.get()) != size || size > bytes())
    throw InputError("{}: '{}' is no text", path_, name);
  std::string text(size, '\0');
  place.check(H5Dread(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data()), "cannot be read");
  text.resize(std::min(text.find('\0'), text.size()));
  return text;
}

bool Hdf5File::is_real(const std::string& object, const std::string& attribute) const {
  const Quiet quiet;
  const Place place{path_, object};
  const auto owner = open_object(file_, place);
  const auto opened = place.own(H5Aopen(owner.get(), attribute.c_str(), H5P_DEFAULT), H5Aclose, "lacks an attribute");
  const auto type = place.own(H5Aget_type(opened.get()), H5Tclose, "has an unreadable attribute");
  return H5Tget_class(type.get()) == H5T_FLOAT;
}

void Hdf5File::read_attribute(const std::string& object, const std::string& name, std::int64_t type,
                              void* value) const {
  const Quiet quiet;
  const Place place{path_, object};
  const auto owner = open_object(file_, place);
  if (place.check(H5Aexists(owner.get(), name.c_str()), "has unreadable attributes") == 0)
    throw InputError("{}: '{}' lacks the attribute '{}'", path_, object, name);
  const auto attribute =
      place.own(H5Aopen(owner.get(), name.c_str(), H5P_DEFAULT), H5Aclose, "has unreadable attributes");
  const auto stored = place.own(H5Aget_type(attribute.get()), H5Tclose, "has unreadable attributes");
  const auto space = place.own(H5Aget_space(attribute.get()), H5Sclose, "has unreadable attributes");
  if (place.check(H5Tequal(stored.get(), type), "has unreadable attributes") == 0 ||
      H5Sget_simple_extent_npoints(space.get()) != 1)
    throw InputError("{}: '{}': attribute '{}' is of another type, expected one number of 64 bits", path_, object,
                     name);
  place.check(H5Aread(attribute.get(), type, value), "has unreadable attributes");
}

std::int64_t Hdf5File::read_integer(const std::string& object, const std::string& attribute) const {
  std::int64_t value = 0;
  read_attribute(object, attribute, H5T_STD_I64LE, &value);
  return value;
}
double Hdf5File::read_real(const std::string& object, const std::string& attribute) const {
  double value = 0;
  read_attribute(object, attribute, H5T_IEEE_F64LE, &value);
  return value;
}

void Hdf5File::read(const std::string& name, std::span<const Hyperslab> boxes, void* data) const {
  const Quiet quiet;
  const Place place{path_, name};
  const auto dataset = open_dataset(file_, place);
  const auto type = place.own(H5Dget_type(dataset.get()), H5Tclose, "has no type");
  const Selection selection(dataset, boxes, place);
  place.check(H5Dread(dataset.get(), type.get(), selection.memory.get(), selection.file.get(), transfer_.get(), data),
              "cannot be read");
}

}  // namespace grist::io
