// A token file of any bytes: it is read or refused with an Error.
#include <fuzz/input_file.hpp>
#include <grist/core/errors.hpp>
#include <grist/io/token_file.hpp>

#include <algorithm>
#include <cstring>
#include <vector>

namespace {

volatile std::uint64_t sum = 0;

void open(const std::filesystem::path& path) {
  try {
    const grist::io::TokenFile file(path);
    std::vector<int> ids(file.tokens());
    for (std::uint64_t t = 0; t < file.tokens(); ++t) sum = sum + (file.trained(t) ? 1 : 0);
    for (std::uint64_t d = 0; d < file.documents(); ++d) sum = sum + file.document_begin(d + 1);
    file.read(0, ids);
  } catch (const grist::Error&) {
  }
}

std::uint64_t number(const std::vector<std::uint8_t>& bytes, std::size_t at) {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const grist::fuzz::InputFolder folder;
  open(folder.write("input.tokens", data, size));
  if (size < 64) return 0;
  // Once more with the size that the header has now: else hardly any changed header would be looked into.
  std::vector<std::uint8_t> mended(data, data + size);
  const std::uint64_t documents = std::min<std::uint64_t>(number(mended, 32), 1000);
  const std::uint64_t tokens = std::min<std::uint64_t>(number(mended, 40), 10000);
  mended.resize(64 + (tokens * (mended[12] & 7U) + 7) / 8 * 8 + 8 * documents +
                (mended[48] % 2 == 1 ? tokens / 8 + 1 : 0));
  open(folder.write("input.tokens", mended.data(), mended.size()));
  return 0;
}
