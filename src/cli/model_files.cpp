#include "model_files.hpp"

#include <grist/core/errors.hpp>
#include <grist/core/philox.hpp>
#include <grist/io/gguf.hpp>

#include <algorithm>
#include <format>
#include <fstream>
#include <vector>

namespace grist::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t largest_description = 16 << 20;  // bytes; the header of a GGUF file holds a whole vocabulary
/// Of the rest: a model of which a part was trained on, some percent of its bytes, differs in some of them.
constexpr std::uint64_t most_pieces = 512, least_pieces = 16, piece_bytes = 4096;

/// How many bytes in front describe the tensors; what a safetensors file says of itself is checked where it is read.
std::uint64_t description_bytes(std::ifstream& in, const fs::path& file) {
  std::uint64_t header = 0;
  if (file.extension() != ".safetensors") return largest_description;
  in.read(reinterpret_cast<char*>(&header), sizeof header);
  return std::min(header, largest_description) + sizeof header;
}

/// The share of `pieces` of one file of a model of `all_bytes`.
std::string line_of(const fs::path& file, std::uint64_t all_bytes) {
  std::ifstream in(file, std::ios::binary);
  const std::uint64_t size = fs::file_size(file);
  const std::uint64_t described = std::min(size, description_bytes(in, file));
  std::string bytes;
  const auto read = [&](std::uint64_t offset, std::uint64_t count) {
    std::string piece(count, '\0');
    in.clear();
    in.seekg(static_cast<std::streamoff>(offset));
    in.read(piece.data(), static_cast<std::streamsize>(count));
    bytes += piece;
  };
  read(0, described);
  const auto share = static_cast<double>(size) / static_cast<double>(std::max<std::uint64_t>(all_bytes, 1));
  const auto pieces = std::max(least_pieces, static_cast<std::uint64_t>(share * most_pieces));
  for (std::uint64_t i = 0; i < pieces && size - described > piece_bytes; ++i)
    read(described + (size - described - piece_bytes) / pieces * i, piece_bytes);
  return std::format("{} of {} bytes, hash {:016x}\n", file.filename().string(), size, hash_name(bytes));
}

}  // namespace

std::string describe_files(const fs::path& model) {
  if (!fs::exists(model))
    throw InputError("{}: no such model; a model is a Hugging Face folder or a GGUF file", model.string());
  std::vector<fs::path> files;
  const auto gguf = io::gguf_file_of(model);
  if (!fs::is_directory(gguf)) {
    for (const auto& part : io::gguf_parts(gguf))
      if (fs::exists(part)) files.push_back(part);
    if (const auto sampling = model / "generation_config.json"; fs::exists(sampling)) files.push_back(sampling);
  } else {
    for (const auto& entry : fs::directory_iterator(model)) {
      const auto ending = entry.path().extension();
      if (entry.is_regular_file() &&
          (ending == ".json" || ending == ".safetensors" || ending == ".model" || ending == ".jinja"))
        files.push_back(entry.path());
    }
  }
  std::ranges::sort(files, {}, &fs::path::filename);
  std::string lines;
  std::uint64_t bytes = 0;
  for (const auto& file : files) bytes += fs::file_size(file);
  for (const auto& file : files) lines += line_of(file, bytes);
  return lines;
}

void copy_over(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::copy_file(from, to, fs::copy_options::overwrite_existing, error);
  if (error) throw InputError("{}: cannot be copied to {}: {}", from.string(), to.string(), error.message());
}

void copy_companions(const fs::path& from, const fs::path& to) {
  for (const char* name : {"generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
                           "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "vocab.json",
                           "merges.txt"})
    if (fs::exists(from / name)) copy_over(from / name, to / name);
}

}  // namespace grist::cli
