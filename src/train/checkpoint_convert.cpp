#include <grist/train/checkpoint_convert.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/safetensors.hpp>
#include <grist/train/checkpoint_file.hpp>
#include <grist/train/checkpoint_piece.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <format>
#include <fstream>
#include <functional>

namespace grist {
namespace {

namespace fs = std::filesystem;

/// Calls f(bytes, elements) for all numbers of a tensor in order, and compares its checksum when all have been read.
void each_number(const io::Hdf5File& file, const std::string& path,
                 const std::function<void(const std::byte*, Index)>& f) {
  const auto [type, shape] = file.tensor(path);
  const FileMatrix matrix(shape);
  std::vector<std::byte> numbers;
  std::uint64_t sum = 0;
  for (const Range& rows : pieces_of(shape)) {
    std::vector<Run> runs;
    for (Index row = rows.begin; row < rows.end; ++row)
      runs.push_back({row, 0, matrix.width, (row - rows.begin) * matrix.width, 1, true});
    const Index count = rows.size() * matrix.width;
    numbers.resize(static_cast<std::size_t>(count) * size_of(type));
    file.read(path, CheckpointPiece(runs, shape, rows, {0, count}).boxes(), numbers.data());
    sum += checksum_of(numbers.data(), type, rows.begin * matrix.width, count);
    f(numbers.data(), count);
  }
  check_checksum(file, path, static_cast<Index>(sum));
}

template <class From, class To>
void convert(const std::byte* from, Index count, float less, std::vector<std::byte>& to) {
  to.resize(static_cast<std::size_t>(count) * sizeof(To));
  for (Index i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, from + i * Index{sizeof(From)}, sizeof(From));
    const To converted(static_cast<float>(value) - less);
    std::memcpy(to.data() + i * Index{sizeof(To)}, &converted, sizeof(To));
  }
}

template <class F>
void with_type(DType type, F&& f) {
  if (type == DType::f32) f(float());
  else if (type == DType::bf16) f(bf16());
  else f(f16());
}

std::uint64_t bytes_of(const io::TensorHeader& tensor) {
  const FileMatrix matrix(tensor.shape);
  return static_cast<std::uint64_t>(matrix.rows * matrix.width) * size_of(tensor.type);
}

/// Tensors in turn, as many in each shard as fit.
std::vector<std::vector<io::TensorHeader>> shards_of(const std::vector<io::TensorHeader>& tensors,
                                                     std::uint64_t most_bytes) {
  std::vector<std::vector<io::TensorHeader>> shards(1);
  std::uint64_t bytes = 0;
  for (const auto& tensor : tensors) {
    if (!shards.back().empty() && bytes + bytes_of(tensor) > most_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(tensor);
    bytes += bytes_of(tensor);
  }
  return shards;
}

void write_text(const fs::path& file, const std::string& text) {
  std::ofstream out(file, std::ios::binary);
  out << text;
  if (!out.flush()) throw InputError("{}: cannot be written: {}", file.string(), std::strerror(errno));
}

std::string read_text(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw InputError("{}: cannot be opened: {}", file.string(), std::strerror(errno));
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_tensor(const io::Hdf5File& file, const io::TensorHeader& tensor, io::SafetensorsWriter& writer,
                  const std::function<void(std::uint64_t)>& wrote) {
  const std::string path = path_of("model", tensor.name);
  const auto attributes = file.attributes_of(path);
  const bool plus_one = std::ranges::find(attributes, "plus_one") != attributes.end();
  const DType stored = file.tensor(path).type;
  std::vector<std::byte> converted;
  each_number(file, path, [&](const std::byte* numbers, Index count) {
    if (stored == tensor.type && !plus_one) {
      writer.write(numbers, static_cast<std::size_t>(count) * size_of(stored));
    } else {
      with_type(stored, [&]<class From>(From) {
        with_type(tensor.type, [&]<class To>(To) {
          convert<From, To>(numbers, count, plus_one ? 1.0F : 0.0F, converted);
        });
      });
      writer.write(converted.data(), converted.size());
    }
    wrote(static_cast<std::uint64_t>(count) * size_of(tensor.type));
  });
}

}  // namespace

void verify_tensor(const io::Hdf5File& checkpoint, const std::string& tensor) {
  each_number(checkpoint, tensor, [](const std::byte*, Index) {});
}

void convert_to_folder(const fs::path& checkpoint, const fs::path& folder, std::optional<DType> type,
                       std::uint64_t most_bytes, const Progress& progress) {
  const auto file = open_checkpoint(checkpoint);
  const auto state = read_state(file);
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"})
    if (fs::exists(folder / name))
      throw UsageError("{}: already holds a {}; choose another folder", folder.string(), name);
  std::vector<io::TensorHeader> tensors;
  std::uint64_t total = 0, done = 0;
  for (const auto& name : file.names_in("/model")) {
    const auto tensor = file.tensor(path_of("model", name));
    tensors.push_back({name, type.value_or(tensor.type), tensor.shape});
    total += bytes_of(tensors.back());
  }
  if (tensors.empty()) throw InputError("{}: holds no '/model'", checkpoint.string());
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw InputError("{}: cannot be made: {}", folder.string(), error.message());

  const auto shards = shards_of(tensors, most_bytes);
  nlohmann::json index = {{"metadata", {{"total_size", total}}}, {"weight_map", nlohmann::json::object()}};
  for (std::size_t s = 0; s < shards.size(); ++s) {
    const std::string name = shards.size() == 1 ? "model.safetensors"
                                                : std::format("model-{:05}-of-{:05}.safetensors", s + 1, shards.size());
    io::SafetensorsWriter writer(folder / name, shards[s]);
    for (const auto& tensor : shards[s]) {
      index["weight_map"][tensor.name] = name;
      write_tensor(file, tensor, writer, [&](std::uint64_t bytes) {
        done += bytes;
        if (progress) progress(done, total);
      });
    }
    writer.close();
  }
  if (shards.size() > 1) write_text(folder / "model.safetensors.index.json", index.dump(2) + "\n");
  if (!state.model_config.empty()) write_text(folder / "config.json", state.model_config);
}

void convert_to_checkpoint(const Exec& exec, const fs::path& folder, const fs::path& checkpoint, DType type,
                           const Progress& progress) {
  if (!fs::is_directory(folder) || !fs::exists(folder / "config.json"))
    throw InputError("{}: expected a Hugging Face folder with a config.json", folder.string());
  const auto files = open_model(folder);
  const auto table = tensor_table(files.spec, files.names);
  const auto shard = shard_of(files.spec, 1, 0);
  const Communicator alone(comm_self());
  const auto tensors = file_tensors(table);
  CheckpointWriter writer(checkpoint, tensors, {{"model", type}},
                          {.configuration = "{}", .model_config = read_text(folder / "config.json")}, alone, {});
  const Index layers = files.spec.layer_count();
  for (Index layer = 0; layer < layers; ++layer) {
    const Range one{layer, layer + 1};
    auto blocks = make_blocks(table, one, shard);
    load_blocks(blocks, files, table, one, shard);
    const CheckpointLayout layout(table, {one}, {shard}, 0, blocks);
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      auto runs = layout.runs(t);
      std::erase_if(runs, [](const Run& run) { return !run.owned; });
      if (!runs.empty()) writer.write({.name = "model", .values = blocks.flat()}, t, runs);
    }
    writer.drain();  // the blocks go
    if (progress) progress(static_cast<std::uint64_t>(layer + 1), static_cast<std::uint64_t>(layers));
  }
  writer.finish(exec);
}

}  // namespace grist
