// A checkpoint of any bytes: it is read or refused with an Error.
#include <fuzz/input_file.hpp>
#include <grist/core/errors.hpp>
#include <grist/train/checkpoint_convert.hpp>
#include <grist/train/checkpoint_file.hpp>
#include <grist/train/checkpoint_folder.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const grist::fuzz::InputFolder folder;
  const auto path = folder.write("checkpoint.h5", data, size);
  try {
    grist::check_checkpoint(path);
    const auto file = grist::open_checkpoint(path);
    for (const auto& name : file.names_in("/model")) grist::verify_tensor(file, grist::path_of("model", name));
  } catch (const grist::Error&) {
  }
  std::filesystem::remove(path);
  return 0;
}
