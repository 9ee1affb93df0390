#include <grist/io/safetensors.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/mapped_file.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <format>
#include <map>
#include <memory>
#include <set>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>

namespace grist::io {
namespace {

using nlohmann::json;

constexpr std::uint64_t most_header_bytes = 100'000'000;  // the format's own limit

/// A JSON object in which no key appears twice. `what` is what the text is, for messages.
json parse_object(const std::string& path, std::string_view what, const std::byte* data, std::uint64_t size) {
  if (size > most_header_bytes) {
    throw InputError("{}: {} has {} bytes, expected at most {}", path, what, size, most_header_bytes);
  }
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto check = [&](int depth, json::parse_event_t event, const json& parsed) {
    if (depth > 8) throw InputError("{}: {} is nested deeper than 8", path, what);
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      throw InputError("{}: {} has the key '{}' twice", path, what, parsed.get_ref<const std::string&>());
    }
    return true;
  };
  try {
    const auto* text = reinterpret_cast<const char*>(data);
    json object = json::parse(text, text + size, check);
    if (object.is_object()) return object;
  } catch (const json::exception& error) {
    throw InputError("{}: {} is malformed: {}", path, what, std::string_view(error.what()).substr(0, 200));
  }
  throw InputError("{}: {} is not a JSON object", path, what);
}

/// The entry of an object; throws where it is absent.
const json& entry_of(const json& object, std::string_view key, const std::string& path, std::string_view what) {
  const auto found = object.find(key);
  if (found == object.end()) throw InputError("{}: {} has no '{}'", path, what, key);
  return *found;
}

/// A list of numbers >= 0.
std::vector<Index> numbers(const json& object, std::string_view key, const std::string& path, std::string_view what) {
  std::vector<Index> found;
  const json& list = entry_of(object, key, path, what);
  bool good = list.is_array();
  if (good) {
    for (const json& number : list) {
      good = good && number.is_number_unsigned() && std::in_range<Index>(number.get<std::uint64_t>());
      found.push_back(good ? number.get<Index>() : 0);
    }
  }
  if (!good) throw InputError("{}: {}: {} is not an array of whole numbers from 0 to 2^63 - 1", path, what, key);
  return found;
}

struct StoredType {
  Format format;
  std::string_view name;
};
constexpr StoredType stored_types[] = {{Format::f32, "F32"}, {Format::f16, "F16"}, {Format::bf16, "BF16"}};

/// A tensor as the header has it, with the offset still counted from the data's start.
TensorInfo read_tensor(const std::string& name, const json& entry, const std::string& path) {
  const std::string what = "tensor '" + name + "'";
  if (!entry.is_object()) throw InputError("{}: {} is a JSON {}, expected an object", path, what, entry.type_name());
  const json& dtype = entry_of(entry, "dtype", path, what);
  if (!dtype.is_string() || dtype.get_ref<const std::string&>().empty())
    throw InputError("{}: {} has a dtype of JSON {}, expected a name as F32 or BF16", path, what, dtype.type_name());
  TensorInfo tensor{.name = name, .shape = numbers(entry, "shape", path, what)};
  const std::vector<Index> offsets = numbers(entry, "data_offsets", path, what);
  if (offsets.size() != 2) throw InputError("{}: {} has {} data_offsets, expected 2", path, what, offsets.size());
  const bool ascending = offsets[0] <= offsets[1];
  const std::uint64_t size = ascending ? static_cast<std::uint64_t>(offsets[1] - offsets[0]) : 0;
  const auto* const found = std::ranges::find_if(stored_types, [&](const StoredType& t) { return dtype == t.name; });
  if (found != std::end(stored_types))
    tensor.format = found->format;
  else
    tensor.foreign = {dtype.get<std::string>(), size};
  if (!ascending || tensor.bytes() != size) {
    throw InputError("{}: {} ({} {}) has data_offsets [{}, {}], expected {} bytes", path, what,
                     dtype.get_ref<const std::string&>(), text_of(tensor.shape), offsets[0], offsets[1],
                     tensor.bytes());
  }
  tensor.offset = static_cast<std::uint64_t>(offsets[0]);
  return tensor;
}

/// Adds those tensors of a file for which `wanted(name)`. Its tensors must tile all that follows the header.
template <class Wanted>
void add_tensors(Weights& weights, const std::filesystem::path& name, Wanted wanted) {
  const auto file = std::make_shared<const MappedFile>(name);
  const std::string& path = file->path();
  const std::uint64_t size = file->size();
  if (size < 8) throw InputError("{}: truncated: expected 8 bytes of header length, the file has {}", path, size);
  const auto header_bytes = load<std::uint64_t>(file->data());
  if (header_bytes > size - 8) {
    throw InputError("{}: truncated or no safetensors file: a header of {} bytes in a file of {}", path, header_bytes,
                     size);
  }
  const json header = parse_object(path, "the header", file->data() + 8, header_bytes);

  std::vector<TensorInfo> tensors;
  for (const auto& [key, entry] : header.items()) {
    if (key != "__metadata__") tensors.push_back(read_tensor(key, entry, path));
  }
  std::ranges::sort(tensors, {}, [](const TensorInfo& t) { return std::tuple(t.offset, t.bytes()); });
  const std::size_t index = weights.add_file(file);
  const std::uint64_t data_start = 8 + header_bytes;
  std::uint64_t end = 0;
  for (TensorInfo& tensor : tensors) {
    if (tensor.offset != end) {
      throw InputError("{}: tensor '{}' begins at byte {} of the data, the tensor before it ends at {}: {}", path,
                       tensor.name, tensor.offset, end, tensor.offset < end ? "they overlap" : "there is a hole");
    }
    end += tensor.bytes();
    if (end > size - data_start) {
      throw InputError("{}: truncated: tensor '{}' ends at byte {} of the data, the file has {}", path, tensor.name,
                       end, size - data_start);
    }
    tensor.file = index;
    tensor.offset += data_start;
    if (wanted(tensor.name)) weights.add(std::move(tensor));
  }
  if (end != size - data_start) {
    throw InputError("{}: {} bytes follow the last tensor, expected none", path, size - data_start - end);
  }
}

/// The shard of each tensor.
std::map<std::string, std::string> read_index(const std::filesystem::path& name) {
  const MappedFile file(name);
  const std::string& path = file.path();
  const json index = parse_object(path, "the index", file.data(), file.size());
  const json& map = entry_of(index, "weight_map", path, "the index");
  if (!map.is_object()) throw InputError("{}: weight_map is a JSON {}, expected an object", path, map.type_name());
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, shard] : map.items()) {
    const std::string file_name = shard.is_string() ? shard.get<std::string>() : "";
    // The index comes with the download: it may not lead out of its folder.
    if (file_name.empty() || file_name == "." || file_name == ".." || file_name.find('/') != std::string::npos) {
      throw InputError("{}: tensor '{}' lies in '{}', expected the name of a file in this folder", path, tensor,
                       shard.is_string() ? file_name : shard.type_name());
    }
    shards.emplace(tensor, file_name);
  }
  return shards;
}

bool is_there(const std::filesystem::path& file) {
  std::error_code error;  // a broken link is there: opening it says which it is
  return std::filesystem::exists(std::filesystem::symlink_status(file, error));
}

/// The shards that lie in a folder, for a message.
std::string shards_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (entry.path().extension() == ".safetensors") names.insert(entry.path().filename().string());
  return names.empty() ? std::string()
                       : std::format(" ({} lies there, and no index says what belongs together)", *names.begin());
}

/// The shards in the order of their names. Where one shard overlays another's tensor, both hold it; transformers takes
/// what it reads last, and the index must say the same.
Weights open_shards(const std::filesystem::path& folder, const std::filesystem::path& index) {
  Weights weights;
  const std::map<std::string, std::string> shards = read_index(index);
  std::set<std::string> files;
  for (const auto& [tensor, file] : shards) files.insert(file);
  for (const std::string& file : files) {
    add_tensors(weights, folder / file, [&](const std::string& tensor) {
      const auto named = shards.find(tensor);
      if (named == shards.end())
        throw InputError("{}: tensor '{}' of {} is not in the weight_map", index.string(), tensor,
                         (folder / file).string());
      if (named->second < file) {
        throw InputError("{}: tensor '{}' should lie in {}, {} holds it and would take precedence", index.string(),
                         tensor, named->second, (folder / file).string());
      }
      return named->second == file;
    });
  }
  for (const auto& [name, file] : shards) {
    if (weights.find(name) == nullptr)
      throw InputError("{}: tensor '{}' should lie in {}, which does not hold it", index.string(), name, file);
  }
  return weights;
}

}  // namespace

Weights open_safetensors(const std::filesystem::path& folder) {
  const std::filesystem::path whole = folder / "model.safetensors";
  const std::filesystem::path index = folder / "model.safetensors.index.json";
  if (is_there(whole)) {
    Weights weights;
    add_tensors(weights, whole, [](const std::string&) { return true; });
    return weights;
  }
  if (is_there(index)) return open_shards(folder, index);
  throw InputError("{}: holds neither model.safetensors nor model.safetensors.index.json{}", folder.string(),
                   shards_in(folder));
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& file, const std::vector<TensorHeader>& tensors)
    : file_(file) {
  std::string header = R"({"__metadata__":{"format":"pt"})";  // transformers asks for it
  std::uint64_t end = 0;
  for (const TensorHeader& tensor : tensors) {
    const auto* const stored = std::ranges::find(stored_types, format_of(tensor.type), &StoredType::format);
    const std::uint64_t begin = end;
    end += TensorInfo{.name = {}, .format = stored->format, .shape = tensor.shape}.bytes();
    header += std::format(R"(,{}:{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", json(tensor.name).dump(),
                          stored->name, text_of(tensor.shape), begin, end);
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');  // readers may want the data aligned
  const std::uint64_t length = header.size();
  left_ = sizeof(length) + length + end;
  write(&length, sizeof(length));
  write(header.data(), length);
}

void SafetensorsWriter::write(const void* data, std::size_t bytes) {
  if (bytes > left_) throw InternalError("{}: {} bytes written where {} are left", file_.path(), bytes, left_);
  file_.write(data, bytes);
  left_ -= bytes;
}

void SafetensorsWriter::close() {
  if (left_ > 0) throw InternalError("{}: closed with {} bytes still to come", file_.path(), left_);
  file_.close();
}

}  // namespace grist::io
