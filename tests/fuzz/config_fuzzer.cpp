// A config.json, or the metadata of a GGUF file, of any bytes: it becomes a ModelSpec or is refused with an Error.
#include <fuzz/input_file.hpp>
#include <grist/core/errors.hpp>
#include <grist/model/family.hpp>

#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const grist::fuzz::InputFolder folder;
  const bool gguf = std::string_view(reinterpret_cast<const char*>(data), size).starts_with("GGUF");
  const auto file = folder.write(gguf ? "model.gguf" : "config.json", data, size);
  try {
    grist::read_spec(file);
  } catch (const grist::Error&) {
  }
  return 0;
}
