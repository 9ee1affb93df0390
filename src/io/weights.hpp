// The weights of a model on disk, as named matrices that any rank reads slices of. Files are memory-mapped.
#pragma once

#include <grist/core/dtype.hpp>
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

/// How numbers lie in a file. The q-types are GGUF's block formats.
enum class FileType { f32, f16, bf16, q8_0, q4_0, q4_1, q4_k, q6_k };
std::string_view name_of(FileType type);

/// "[576, 1536]", for messages.
std::string text_of(const std::vector<Index>& shape);

/// Where one tensor lies. The shape is in row-major order (GGUF's reversed): a linear weight is [out, in].
struct TensorInfo {
  std::string name;
  FileType type = FileType::f32;
  std::vector<Index> shape;
  std::size_t file = 0;      // index of the mapped file
  std::uint64_t offset = 0;  // of the first byte in it

  [[nodiscard]] Index rows() const;           // all dimensions but the last; a vector is one row
  [[nodiscard]] Index columns() const;        // the last dimension
  [[nodiscard]] std::uint64_t bytes() const;  // in the file; a shape beyond 64 bits gives more than any file holds
};

/// A rectangle of a matrix.
struct Slice {
  Index row = 0;
  Index rows = 0;
  Index column = 0;
  Index columns = 0;
};

/// A set of mapped files and the tensors in them.
class Weights {
public:
  [[nodiscard]] const std::map<std::string, TensorInfo, std::less<>>& tensors() const { return tensors_; }
  [[nodiscard]] const TensorInfo* find(std::string_view name) const;  // null where absent
  [[nodiscard]] std::string file_of(const TensorInfo& tensor) const;  // for messages

  /// Reads a slice into host memory, row-major [slice.rows, slice.columns], converted or dequantized to T (float, bf16,
  /// f16). Same type: bit for bit. Reads only the pages of the slice's rows. Throws InputError outside the shape.
  template <class T>
  void read(const TensorInfo& tensor, const Slice& slice, T* out) const;

  /// Adds a file and says its index; add() checks that the tensor lies inside its file, that no other tensor lies on
  /// its bytes, that its rows are whole blocks and that its name is new.
  std::size_t add_file(std::shared_ptr<const MappedFile> file);
  void add(TensorInfo tensor);

private:
  struct File {
    std::shared_ptr<const MappedFile> mapping;
    std::map<std::uint64_t, std::string> placed;  // tensors by their first byte
  };
  std::vector<File> files_;
  std::map<std::string, TensorInfo, std::less<>> tensors_;
};

}  // namespace grist::io
