#include <grist/io/gguf.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/gguf_types.hpp>
#include <grist/io/mapped_file.hpp>

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <utility>

namespace grist::io {
namespace {

/// Walks through the file. Every length is checked against the file's end before it is used.
class Cursor {
public:
  explicit Cursor(const MappedFile& file) : file_(file) {}

  [[nodiscard]] std::uint64_t position() const { return position_; }
  [[nodiscard]] const std::string& path() const { return file_.path(); }

  const std::byte* take(std::uint64_t count, std::uint64_t element_bytes, std::string_view what) {
    if (count > (file_.size() - position_) / element_bytes) {
      throw InputError("{}: truncated: {} wants {} x {} bytes at byte {}, the file has {}", path(), what, count,
                       element_bytes, position_, file_.size());
    }
    return file_.data() + std::exchange(position_, position_ + count * element_bytes);
  }

  template <class T>
  T number(std::string_view what) {
    return load<T>(take(1, sizeof(T), what));
  }

  std::string string(std::string_view what) {
    const auto length = number<std::uint64_t>(what);
    return std::string(reinterpret_cast<const char*>(take(length, 1, what)), length);
  }

private:
  const MappedFile& file_;
  std::uint64_t position_ = 0;
};

/// Calls f with a value of the C++ type of a scalar.
template <class F>
auto with_scalar(ValueType type, const Cursor& cursor, std::string_view what, F f) {
  switch (type) {
    case ValueType::u8:
    case ValueType::boolean: return f(std::uint8_t{});
    case ValueType::i8: return f(std::int8_t{});
    case ValueType::u16: return f(std::uint16_t{});
    case ValueType::i16: return f(std::int16_t{});
    case ValueType::u32: return f(std::uint32_t{});
    case ValueType::i32: return f(std::int32_t{});
    case ValueType::u64: return f(std::uint64_t{});
    case ValueType::i64: return f(std::int64_t{});
    case ValueType::f32: return f(float{});
    case ValueType::f64: return f(double{});
    case ValueType::string:
    case ValueType::array: break;
  }
  throw InputError("{}: {} has the value type {}, which is none of GGUF's", cursor.path(), what,
                   static_cast<std::uint32_t>(type));
}

/// int64 or double, whichever holds T.
template <class T>
auto widen(T value, const Cursor& cursor, std::string_view what) {
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<double>(value);
  } else {
    if (!std::in_range<std::int64_t>(value)) throw InputError("{}: {} is {}: too large", cursor.path(), what, value);
    return static_cast<std::int64_t>(value);
  }
}

GgufValue read_array(Cursor& cursor, std::string_view what) {
  const auto type = static_cast<ValueType>(cursor.number<std::uint32_t>(what));
  const auto count = cursor.number<std::uint64_t>(what);
  if (type == ValueType::string) {
    std::vector<std::string> strings;  // grows as strings are found: the count alone is not to be trusted
    for (std::uint64_t i = 0; i < count; ++i) strings.push_back(cursor.string(what));
    return strings;
  }
  return with_scalar(type, cursor, what, [&]<class T>(T) -> GgufValue {
    const std::byte* data = cursor.take(count, sizeof(T), what);
    std::vector<decltype(widen(T{}, cursor, what))> values(count);
    for (std::uint64_t i = 0; i < count; ++i) values[i] = widen(load<T>(data + i * sizeof(T)), cursor, what);
    return values;
  });
}

GgufValue read_value(Cursor& cursor, std::string_view what) {
  const auto type = static_cast<ValueType>(cursor.number<std::uint32_t>(what));
  if (type == ValueType::string) return cursor.string(what);
  if (type == ValueType::array) return read_array(cursor, what);
  if (type == ValueType::boolean) return cursor.number<std::uint8_t>(what) != 0;
  return with_scalar(type, cursor, what,
                     [&]<class T>(T) -> GgufValue { return widen(cursor.number<T>(what), cursor, what); });
}

/// ggml's tensor types by their number; those that grist reads have a Format.
struct TensorType {
  std::uint32_t number;
  std::string_view name;
  std::optional<Format> format;
};
constexpr std::array tensor_types = {TensorType{0, "F32", Format::f32},
                                     TensorType{1, "F16", Format::f16},
                                     TensorType{2, "Q4_0", Format::q4_0},
                                     TensorType{3, "Q4_1", Format::q4_1},
                                     TensorType{6, "Q5_0", Format::q5_0},
                                     TensorType{7, "Q5_1", Format::q5_1},
                                     TensorType{8, "Q8_0", Format::q8_0},
                                     TensorType{9, "Q8_1", {}},
                                     TensorType{10, "Q2_K", Format::q2_k},
                                     TensorType{11, "Q3_K", Format::q3_k},
                                     TensorType{12, "Q4_K", Format::q4_k},
                                     TensorType{13, "Q5_K", Format::q5_k},
                                     TensorType{14, "Q6_K", Format::q6_k},
                                     TensorType{15, "Q8_K", {}},
                                     TensorType{16, "IQ2_XXS", {}},
                                     TensorType{17, "IQ2_XS", {}},
                                     TensorType{18, "IQ3_XXS", {}},
                                     TensorType{19, "IQ1_S", {}},
                                     TensorType{20, "IQ4_NL", Format::iq4_nl},
                                     TensorType{21, "IQ3_S", {}},
                                     TensorType{22, "IQ2_S", {}},
                                     TensorType{23, "IQ4_XS", Format::iq4_xs},
                                     TensorType{24, "I8", {}},
                                     TensorType{25, "I16", {}},
                                     TensorType{26, "I32", {}},
                                     TensorType{27, "I64", {}},
                                     TensorType{28, "F64", {}},
                                     TensorType{29, "IQ1_M", {}},
                                     TensorType{30, "BF16", Format::bf16},
                                     TensorType{34, "TQ1_0", {}},
                                     TensorType{35, "TQ2_0", {}},
                                     TensorType{39, "MXFP4", {}}};

Format format_of(std::uint32_t number, const std::string& path, const std::string& tensor) {
  const auto* const found = std::ranges::find(tensor_types, number, &TensorType::number);
  if (found != tensor_types.end() && found->format) return *found->format;
  std::string known;
  for (const TensorType& type : tensor_types)
    if (type.format) known += std::format("{}{}", known.empty() ? "" : ", ", type.name);
  throw InputError("{}: tensor '{}' has the type {} ({}), expected one of {}", path, tensor, number,
                   found != tensor_types.end() ? found->name : "unknown", known);
}

/// One entry of the tensor directory; the offset still counts from the data's start.
TensorInfo read_tensor(Cursor& cursor) {
  TensorInfo tensor;
  tensor.name = cursor.string("a tensor's name");
  const std::string what = "tensor '" + tensor.name + "'";
  const auto rank = cursor.number<std::uint32_t>(what);
  if (rank > 4) throw InputError("{}: {} has {} dimensions, GGUF allows 4", cursor.path(), what, rank);
  for (std::uint32_t i = 0; i < rank; ++i) {
    tensor.shape.push_back(widen(cursor.number<std::uint64_t>(what), cursor, what));
  }
  std::ranges::reverse(tensor.shape);
  tensor.format = format_of(cursor.number<std::uint32_t>(what), cursor.path(), tensor.name);
  tensor.offset = cursor.number<std::uint64_t>(what);
  return tensor;
}

void check_version(Cursor& cursor) {
  constexpr std::uint32_t magic = 0x46554747;  // "GGUF"
  const auto found = cursor.number<std::uint32_t>("the magic number");
  if (found != magic)
    throw InputError("{}: not a GGUF file: begins with {:#x}, expected {:#x}", cursor.path(), found, magic);
  const auto version = cursor.number<std::uint32_t>("the version");
  if ((version & 0xffffU) == 0) throw InputError("{}: a big-endian GGUF file, expected little endian", cursor.path());
  if (version != 2 && version != 3) throw InputError("{}: GGUF version {}, expected 2 or 3", cursor.path(), version);
}

template <class T>
constexpr std::string_view type_name = "";
template <>
constexpr std::string_view type_name<bool> = "a bool";
template <>
constexpr std::string_view type_name<std::int64_t> = "an integer";
template <>
constexpr std::string_view type_name<double> = "a float";
template <>
constexpr std::string_view type_name<std::string> = "a string";
template <>
constexpr std::string_view type_name<std::vector<std::int64_t>> = "an array of integers";
template <>
constexpr std::string_view type_name<std::vector<double>> = "an array of floats";
template <>
constexpr std::string_view type_name<std::vector<std::string>> = "an array of strings";

template <class T>
T convert(const Gguf& gguf, std::string_view key, const GgufValue& value) {
  if (const T* same = std::get_if<T>(&value)) return *same;
  if constexpr (std::is_same_v<T, double>) {
    if (const auto* integer = std::get_if<std::int64_t>(&value)) return static_cast<double>(*integer);
  }
  if constexpr (std::is_same_v<T, double> || std::is_same_v<T, std::int64_t>) {  // one number per layer, all the same
    if (const auto* values = std::get_if<std::vector<T>>(&value); values != nullptr && !values->empty()) {
      if (std::ranges::all_of(*values, [&](T other) { return other == values->front(); })) return values->front();
      throw InputError("{}: metadata key '{}' is an array of different numbers, {} and others, expected {}", gguf.path,
                       key, values->front(), type_name<T>);
    }
  }
  const auto found = std::visit([]<class V>(const V&) { return type_name<V>; }, value);
  throw InputError("{}: metadata key '{}' is {}, expected {}", gguf.path, key, found, type_name<T>);
}

}  // namespace

template <class T>
T Gguf::get(std::string_view key) const {
  const auto found = metadata.find(key);
  if (found == metadata.end()) throw InputError("{}: metadata key '{}' is missing", path, key);
  return convert<T>(*this, key, found->second);
}

template <class T>
T Gguf::get_or(std::string_view key, T otherwise) const {
  const auto found = metadata.find(key);
  return found == metadata.end() ? otherwise : convert<T>(*this, key, found->second);
}

namespace {

/// Adds the tensors of the directory at the cursor.
void add_tensors(Weights& weights, Cursor& cursor, std::shared_ptr<const MappedFile> file, std::uint64_t count,
                 std::int64_t alignment) {
  if (alignment <= 0 || !std::has_single_bit(static_cast<std::uint64_t>(alignment)))
    throw InputError("{}: general.alignment is {}, expected a power of two", file->path(), alignment);
  std::vector<TensorInfo> tensors;
  for (std::uint64_t i = 0; i < count; ++i) tensors.push_back(read_tensor(cursor));
  const std::uint64_t mask = static_cast<std::uint64_t>(alignment) - 1;
  const std::uint64_t data_start = (cursor.position() + mask) & ~mask;
  const std::size_t index = weights.add_file(file);
  for (TensorInfo& tensor : tensors) {
    if (tensor.offset > file->size() || (tensor.offset & mask) != 0) {
      throw InputError("{}: tensor '{}' has the offset {}, expected a multiple of {} inside the file of {} bytes",
                       file->path(), tensor.name, tensor.offset, alignment, file->size());
    }
    tensor.file = index;
    tensor.offset += data_start;
    weights.add(std::move(tensor));
  }
}

/// A file's metadata, and its tensors added to `weights`.
Gguf open_file(const std::filesystem::path& path, Weights& weights) {
  const auto file = std::make_shared<const MappedFile>(path);
  Gguf gguf{.path = file->path(), .metadata = {}, .entries = {}, .weights = {}};
  Cursor cursor(*file);
  check_version(cursor);
  const auto tensor_count = cursor.number<std::uint64_t>("the number of tensors");
  const auto key_count = cursor.number<std::uint64_t>("the number of metadata keys");
  for (std::uint64_t i = 0; i < key_count; ++i) {
    const std::string key = cursor.string("a metadata key");
    const std::byte* const begin = file->data() + cursor.position();
    const bool is_new = gguf.metadata.emplace(key, read_value(cursor, "metadata key '" + key + "'")).second;
    if (!is_new) throw InputError("{}: metadata key '{}' appears twice", gguf.path, key);
    gguf.entries.push_back({key, {begin, file->data() + cursor.position()}});
  }
  add_tensors(weights, cursor, file, tensor_count, gguf.get_or<std::int64_t>("general.alignment", 32));
  return gguf;
}

/// The name that llama-gguf-split gives to a part, counted from 0.
std::filesystem::path part_name(const std::filesystem::path& first, std::int64_t part, std::int64_t parts) {
  const auto ending = [parts](std::int64_t number) { return std::format("-{:05}-of-{:05}.gguf", number + 1, parts); };
  const std::string name = first.filename().string();
  if (!name.ends_with(ending(0))) {
    throw InputError("{}: is a model's first part of {}, whose name should end with {}: the others are found by it",
                     first.string(), parts, ending(0));
  }
  return first.parent_path() / (name.substr(0, name.size() - ending(0).size()) + ending(part));
}

/// Adds the tensors of the other parts of a split model, which lie beside the first.
void add_parts(Gguf& first, const std::filesystem::path& path, std::int64_t parts) {
  if (const auto number = first.get_or<std::int64_t>("split.no", 0); number != 0)
    throw InputError("{}: is part {} of {} of a model: name the first part, which finds the others", first.path,
                     number + 1, parts);
  for (std::int64_t part = 1; part < parts; ++part) {
    const Gguf other = open_file(part_name(path, part, parts), first.weights);
    const auto number = other.get<std::int64_t>("split.no"), count = other.get<std::int64_t>("split.count");
    if (number != part || count != parts)
      throw InputError("{}: is part {} of {}, expected part {} of {}", other.path, number + 1, count, part + 1, parts);
  }
  const auto found = static_cast<std::int64_t>(first.weights.tensors().size());
  if (const auto wanted = first.get_or<std::int64_t>("split.tensors.count", found); wanted != found)
    throw InputError("{}: {} parts hold {} tensors, split.tensors.count says {}", first.path, parts, found, wanted);
}

}  // namespace

std::uint32_t tensor_type_of(Format format) {
  return std::ranges::find(tensor_types, std::optional(format), &TensorType::format)->number;
}

int Gguf::token_id(std::string_view key, std::int64_t count) const {
  std::int64_t unnamed = -1;
  if (get_or<std::string>("tokenizer.ggml.model", "") == "llama")  // SentencePiece's own, which llama.cpp takes then
    unnamed = key.ends_with(".bos_token_id") ? 1 : key.ends_with(".eos_token_id") ? 2 : -1;
  if (unnamed >= count) unnamed = -1;
  const auto id = get_or<std::int64_t>(key, unnamed);
  if (id < -1 || id >= count) throw InputError("{}: {} is {}, expected an id below {}", path, key, id, count);
  return static_cast<int>(id);
}

Gguf open_gguf(const std::filesystem::path& path) {
  Weights weights;
  Gguf gguf = open_file(path, weights);
  gguf.weights = std::move(weights);
  constexpr std::int64_t most_parts = 99999;  // what the names have digits for
  const auto parts = gguf.get_or<std::int64_t>("split.count", 1);
  if (parts > most_parts) throw InputError("{}: split.count is {}, expected {} at most", gguf.path, parts, most_parts);
  if (parts > 1) add_parts(gguf, path, parts);
  return gguf;
}

#define GRIST_GGUF_VALUE(...)                                  \
  template __VA_ARGS__ Gguf::get(std::string_view key) const; \
  template __VA_ARGS__ Gguf::get_or(std::string_view key, __VA_ARGS__ otherwise) const;
GRIST_GGUF_VALUE(bool)
GRIST_GGUF_VALUE(std::int64_t)
GRIST_GGUF_VALUE(double)
GRIST_GGUF_VALUE(std::string)
GRIST_GGUF_VALUE(std::vector<std::int64_t>)
GRIST_GGUF_VALUE(std::vector<double>)
GRIST_GGUF_VALUE(std::vector<std::string>)
#undef GRIST_GGUF_VALUE

bool is_gguf(const std::filesystem::path& file) {
  if (file.extension() == ".gguf") return true;
  std::array<char, 4> magic{};
  return std::filesystem::is_regular_file(file) && std::ifstream(file, std::ios::binary).read(magic.data(), 4) &&
         std::string_view(magic.data(), 4) == "GGUF";
}

std::filesystem::path gguf_file_of(const std::filesystem::path& model) {
  if (!std::filesystem::is_directory(model) || std::filesystem::exists(model / "config.json")) return model;
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(model))
    if (entry.path().extension() == ".gguf") found.push_back(entry.path());
  std::ranges::sort(found);
  if (found.size() > 1 && found.front().filename().string().find("-00001-of-") != std::string::npos) {
    // The parts of one model: the first leads to the others.
    const std::string first = found.front().string(), name = first.substr(0, first.rfind("-00001-of-"));
    const auto is_part = [&](const auto& file) {
      return file.string().starts_with(name + "-") && file.string().size() == first.size();
    };
    if (std::ranges::all_of(found, is_part)) return found.front();
  }
  if (found.size() > 1) {
    throw InputError("{}: holds {} GGUF files; give one of them, for example {}", model.string(), found.size(),
                     found.front().string());
  }
  return found.empty() ? model : found.front();
}

std::vector<std::filesystem::path> gguf_parts(const std::filesystem::path& first) {
  constexpr std::string_view begin = "-00001-of-";
  const std::string name = first.filename().string();
  std::vector<std::filesystem::path> files{first};
  if (const auto at = name.rfind(begin); at != std::string::npos) {
    const int parts = std::atoi(name.c_str() + at + begin.size());
    if (name.ends_with(std::format("{}{:05}.gguf", begin, parts)))
      for (int part = 1; part < parts; ++part) files.push_back(part_name(first, part, parts));
  }
  return files;
}

}  // namespace grist::io
