// A safetensors file, or its index, of any bytes: it is read or refused with an Error.
#include <fuzz/input_file.hpp>
#include <grist/core/errors.hpp>
#include <grist/io/safetensors.hpp>

#include <algorithm>
#include <cstring>
#include <string_view>

namespace {

using grist::Index;

/// The first numbers of the last row of every tensor.
void open(const std::filesystem::path& folder) {
  try {
    const auto weights = grist::io::open_safetensors(folder);
    for (const auto& [name, tensor] : weights.tensors()) {
      if (tensor.bytes() == 0 || !tensor.foreign.name.empty()) continue;
      const Index columns = std::min<Index>(tensor.columns(), 100);
      std::vector<float> values(static_cast<std::size_t>(columns));
      weights.read(tensor, {tensor.rows() - 1, 1, tensor.columns() - columns, columns}, values.data());
      weights.release(tensor, 0, tensor.rows());
    }
  } catch (const grist::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const grist::fuzz::InputFolder folder;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (text.starts_with('{')) {
    const auto index = folder.write("model.safetensors.index.json", data, size);
    open(folder.path());
    std::filesystem::remove(index);
    return 0;
  }
  const auto file = folder.write("model.safetensors", data, size);
  open(folder.path());
  // Once more with the length that the header has now: else hardly any changed header would be looked into.
  if (const auto end = text.find("}}"); end != std::string_view::npos && end >= 8) {
    std::vector<std::uint8_t> mended(data, data + size);
    const std::uint64_t length = end + 2 - 8;
    std::memcpy(mended.data(), &length, sizeof(length));
    folder.write("model.safetensors", mended.data(), mended.size());
    open(folder.path());
  }
  std::filesystem::remove(file);
  return 0;
}
