// HDF5 files of named tensors and attributes, written by all ranks of a communicator at once, read by any process.
#pragma once

#include <grist/comm/handle.hpp>
#include <grist/core/dtype.hpp>
#include <grist/core/view.hpp>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace grist::io {

/// An identifier of the library, closed with its owner.
class Hdf5Id {
public:
  using Close = int (*)(std::int64_t);
  Hdf5Id() = default;
  Hdf5Id(std::int64_t id, Close close_with) : id_(id), close_(close_with) {}
  Hdf5Id(Hdf5Id&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Hdf5Id& operator=(Hdf5Id&& other) noexcept {
    std::swap(id_, other.id_), std::swap(close_, other.close_);
    return *this;
  }
  ~Hdf5Id() { (void)close(); }

  [[nodiscard]] std::int64_t get() const { return id_; }
  /// Negative where it failed; the identifier is gone either way.
  int close();

private:
  std::int64_t id_ = -1;
  Close close_ = nullptr;
};

/// A box of a tensor: first element and extent along each dimension.
struct Hyperslab {
  std::vector<Index> start;
  std::vector<Index> count;
};

/// Elements of a tensor in boxes that do not overlap, in the order of the tensor; `data` has the tensor's type.
struct Hdf5Part {
  std::string tensor;
  std::vector<Hyperslab> boxes;  // none: this rank only takes part
  const void* data = nullptr;
};

struct Hdf5Tensor {
  DType type = DType::f32;
  std::vector<Index> shape;
};

/// Throws UsageError where Hdf5File::create would not take these hints, or those of GRIST_MPIIO_HINTS.
void check_hints(const std::string& hints);

/// Numbers are stored little endian, bf16 as HDF5's own bfloat16. All errors are InputErrors that name file, object and
/// what the library says; nothing is printed.
class Hdf5File {
public:
  /// Creates a file or empties it, over the ranks of `comm`, which all make every call that writes, with equal
  /// arguments but for data and hyperslabs. `hints` for MPI-IO: "key=value;key=value"; they come before those of
  /// GRIST_MPIIO_HINTS.
  /// Throws UsageError for hints of another form.
  static Hdf5File create(const std::filesystem::path& path, CommHandle comm, const std::string& hints = {});
  /// Opens for reading by this process alone. Truncated files are refused.
  static Hdf5File open(const std::filesystem::path& path);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::uint64_t bytes() const;  // of the file as it lies there: after flush() all that was made

  /// Also those that the name has above it.
  void make_group(const std::string& name);
  /// A tensor of at least one dimension, whose place in the file is taken at once.
  void make_tensor(const std::string& name, const Hdf5Tensor& tensor);
  /// A text of any length; the first rank writes it.
  void write_text(const std::string& name, const std::string& text);
  /// Of a group or tensor. One that is there is overwritten.
  void write_attribute(const std::string& object, const std::string& name, std::int64_t value);
  void write_attribute(const std::string& object, const std::string& name, double value);

  /// Parts of tensors at once: all ranks name the same tensors in the same order, none of them twice. Each rank at most
  /// 2 GiB a call.
  void write(std::span<const Hdf5Part> parts);
  void flush();
  /// Throws where what was written did not arrive.
  void close();

  [[nodiscard]] bool has(const std::string& name) const;
  /// Names in a group, sorted; empty where there is no such group.
  [[nodiscard]] std::vector<std::string> names_in(const std::string& group) const;
  [[nodiscard]] std::vector<std::string> attributes_of(const std::string& object) const;
  [[nodiscard]] bool is_group(const std::string& name) const;
  /// Throws InputError where it is another type of numbers, or is not stored in one piece inside of the file.
  [[nodiscard]] Hdf5Tensor tensor(const std::string& name) const;
  [[nodiscard]] std::string read_text(const std::string& name) const;
  [[nodiscard]] bool is_real(const std::string& object, const std::string& attribute) const;
  [[nodiscard]] std::int64_t read_integer(const std::string& object, const std::string& attribute) const;
  [[nodiscard]] double read_real(const std::string& object, const std::string& attribute) const;
  /// The elements in the boxes, which do not overlap, into `data`, as stored.
  void read(const std::string& name, std::span<const Hyperslab> boxes, void* data) const;

private:
  Hdf5File(std::string path, Hdf5Id file, Hdf5Id transfer, bool first_rank)
      : path_(std::move(path)), transfer_(std::move(transfer)), file_(std::move(file)), first_rank_(first_rank) {}
  void write_attribute(const std::string& object, const std::string& name, std::int64_t type, const void* value);
  void read_attribute(const std::string& object, const std::string& name, std::int64_t type, void* value) const;

  std::string path_;
  Hdf5Id transfer_;
  Hdf5Id file_;
  bool first_rank_ = true;
};

}  // namespace grist::io
