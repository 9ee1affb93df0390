// Tensors of files as tests compare them.
#pragma once

#include <grist/io/weights.hpp>

#include <vector>

namespace grist::test {

/// All numbers of a tensor of the files.
inline std::vector<float> numbers_of(const io::Weights& files, const io::TensorInfo& tensor) {
  std::vector<float> numbers(static_cast<std::size_t>(tensor.rows() * tensor.columns()));
  files.read(tensor, {0, tensor.rows(), 0, tensor.columns()}, numbers.data());
  return numbers;
}

}  // namespace grist::test
