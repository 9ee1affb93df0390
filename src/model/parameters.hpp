// The weights that this rank holds, allocated and loaded as the tensor table says.
#pragma once

#include <grist/comm/communicator.hpp>
#include <grist/model/family.hpp>
#include <grist/model/tensor_table.hpp>

#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace grist {

/// Bytes loaded so far and in all, for a progress bar.
using Progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

/// Matrices in T; norms and biases, which are vectors, always in float.
template <class T>
class Parameters {
public:
  /// Allocates and loads the rows of a stage, this rank's slices. Throws InputError naming file, tensor, expected and
  /// found: missing tensors (all listed), wrong shapes, tensors in the files that the model does not know (all listed).
  Parameters(const ModelFiles& files, const std::vector<TensorRow>& rows, const TensorShard& shard, bool first_of_tp,
             const Progress& progress);

  /// A parameter by the table's name; an empty View where the model has none.
  [[nodiscard]] View2<const T> matrix(std::string_view name) const;
  [[nodiscard]] View1<const float> vector(std::string_view name) const;

private:
  struct Matrix {
    Buffer<T> memory;
    Index rows = 0;
    Index columns = 0;
  };
  std::map<std::string, Matrix, std::less<>> matrices_;
  std::map<std::string, Buffer<float>, std::less<>> vectors_;
};

/// Bytes of a stage's parameters in storage type `type`.
std::uint64_t parameter_bytes(const std::vector<TensorRow>& rows, const TensorShard& shard, DType type);

}  // namespace grist
