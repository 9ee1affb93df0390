// The weights of a model on disk, as named matrices that any rank reads slices of. Files are memory-mapped.
#pragma once

#include <grist/core/format.hpp>
#include <grist/core/view.hpp>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace grist::io {

class MappedFile;

/// "[576, 1536]", for messages.
std::string text_of(const std::vector<Index>& shape);

/// A type of numbers that no weight has ("I64", "BOOL"): such a tensor is listed, and refused when somebody reads it.
struct ForeignType {
  std::string name;         // empty where the tensor has a Format
  std::uint64_t bytes = 0;  // of the whole tensor
};

/// Where one tensor lies. The shape is in row-major order (GGUF's reversed): a linear weight is [out, in], those of
/// experts are [experts, out, in] and read as one matrix of experts x out rows.
struct TensorInfo {
  std::string name;
  Format format = Format::f32;
  std::vector<Index> shape;
  std::size_t file = 0;      // index of the mapped file
  std::uint64_t offset = 0;  // of the first byte in it
  ForeignType foreign = {};

  [[nodiscard]] Index rows() const;           // all dimensions but the last; a vector is one row
  [[nodiscard]] Index columns() const;        // the last dimension
  [[nodiscard]] std::uint64_t bytes() const;  // in the file; a shape beyond 64 bits gives more than any file holds
};

/// "q4_k", or the name of a foreign type.
std::string_view type_name_of(const TensorInfo& tensor);

/// A rectangle of a matrix.
struct Slice {
  Index row = 0;
  Index rows = 0;
  Index column = 0;
  Index columns = 0;
  bool operator==(const Slice&) const = default;
};

/// Numbers [column, column + columns) of a row that is stored in blocks of a format; they may begin and end within one.
template <class T>
void decode_row(Format format, const std::byte* row, Index column, Index columns, T* out);

/// A set of mapped files and the tensors in them.
class Weights {
public:
  [[nodiscard]] const std::map<std::string, TensorInfo, std::less<>>& tensors() const { return tensors_; }
  [[nodiscard]] const TensorInfo* find(std::string_view name) const;  // null where absent
  [[nodiscard]] std::string file_of(const TensorInfo& tensor) const;  // for messages

  /// Reads a slice into host memory, row-major [slice.rows, slice.columns], converted or dequantized to T (float, bf16,
  /// f16). Same type: bit for bit. Reads only the pages of the slice's rows; of many, each thread of the host reads a
  /// run of them. Throws InputError outside the shape, and where the tensor's type is foreign.
  template <class T>
  void read(const TensorInfo& tensor, const Slice& slice, T* out) const;

  /// The tensor's first byte in the mapping. Throws InputError where the tensor's type is foreign.
  [[nodiscard]] const std::byte* data(const TensorInfo& tensor) const;

  /// What keeps a tensor's bytes where data() says.
  [[nodiscard]] std::shared_ptr<const MappedFile> mapping(const TensorInfo& tensor) const {
    return files_.at(tensor.file).mapping;
  }

  /// Gives the pages of some rows back, once they were copied: a process then holds little more than its own copy of
  /// the weights. What is read again comes from the file again.
  void release(const TensorInfo& tensor, Index row, Index rows) const;

  /// Adds a file and says its index; add() checks that the tensor lies inside its file, that no other tensor lies on
  /// its bytes, that its rows are whole blocks and that its name is new. Throws InputError.
  std::size_t add_file(std::shared_ptr<const MappedFile> file);
  void add(TensorInfo tensor);

private:
  struct File {
    std::shared_ptr<const MappedFile> mapping;
    std::map<std::uint64_t, std::string> placed;  // tensors by their first byte
  };
  template <class ReadRow>
  void for_rows(const TensorInfo& tensor, const Slice& slice, ReadRow read_row) const;

  std::vector<File> files_;
  std::map<std::string, TensorInfo, std::less<>> tensors_;
};

}  // namespace grist::io
