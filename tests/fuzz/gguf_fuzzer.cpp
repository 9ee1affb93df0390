// A GGUF file of any bytes: it is read or refused with an Error.
#include <fuzz/input_file.hpp>
#include <grist/core/errors.hpp>
#include <grist/io/gguf.hpp>

#include <algorithm>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using grist::Index;
  static const grist::fuzz::InputFolder folder;
  const auto file = folder.write("model.gguf", data, size);
  try {
    const auto gguf = grist::io::open_gguf(file);
    for (const auto& [name, tensor] : gguf.weights.tensors()) {
      if (tensor.bytes() == 0) continue;
      const Index columns = std::min<Index>(tensor.columns(), 300);
      std::vector<float> values(static_cast<std::size_t>(columns));
      gguf.weights.read(tensor, {tensor.rows() - 1, 1, tensor.columns() - columns, columns}, values.data());
      gguf.weights.release(tensor, 0, tensor.rows());
    }
    for (const auto& [key, value] : gguf.metadata) static_cast<void>(gguf.get_or<double>(key, 0));
  } catch (const grist::Error&) {
  }
  return 0;
}
