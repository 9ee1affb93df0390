#include <grist/io/gguf.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/mapped_file.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

namespace grist::io {
namespace {

enum class ValueType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

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

/// ggml's tensor types by their number; those that grist reads have a FileType.
struct TensorType {
  std::uint32_t number;
  std::string_view name;
  std::optional<FileType> type;
};
constexpr std::array tensor_types = {
    TensorType{0, "F32", FileType::f32},    TensorType{1, "F16", FileType::f16},    TensorType{2, "Q4_0", FileType::q4_0},
    TensorType{3, "Q4_1", FileType::q4_1},  TensorType{6, "Q5_0", {}},              TensorType{7, "Q5_1", {}},
    TensorType{8, "Q8_0", FileType::q8_0},  TensorType{9, "Q8_1", {}},              TensorType{10, "Q2_K", {}},
    TensorType{11, "Q3_K", {}},             TensorType{12, "Q4_K", FileType::q4_k}, TensorType{13, "Q5_K", {}},
    TensorType{14, "Q6_K", FileType::q6_k}, TensorType{15, "Q8_K", {}},             TensorType{16, "IQ2_XXS", {}},
    TensorType{17, "IQ2_XS", {}},           TensorType{18, "IQ3_XXS", {}},          TensorType{19, "IQ1_S", {}},
    TensorType{20, "IQ4_NL", {}},           TensorType{21, "IQ3_S", {}},            TensorType{22, "IQ2_S", {}},
    TensorType{23, "IQ4_XS", {}},           TensorType{24, "I8", {}},               TensorType{25, "I16", {}},
    TensorType{26, "I32", {}},              TensorType{27, "I64", {}},              TensorType{28, "F64", {}},
    TensorType{29, "IQ1_M", {}},            TensorType{30, "BF16", FileType::bf16}, TensorType{34, "TQ1_0", {}},
    TensorType{35, "TQ2_0", {}},            TensorType{39, "MXFP4", {}}};

FileType file_type(std::uint32_t number, const std::string& path, const std::string& tensor) {
  const auto* const found = std::ranges::find(tensor_types, number, &TensorType::number);
  if (found != tensor_types.end() && found->type) return *found->type;
  throw InputError("{}: tensor '{}' has the type {} ({}), expected F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K or Q6_K", path,
                   tensor, number, found != tensor_types.end() ? found->name : "unknown");
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
  tensor.type = file_type(cursor.number<std::uint32_t>(what), cursor.path(), tensor.name);
  tensor.offset = cursor.number<std::uint64_t>(what);
  return tensor;
}

void check_version(Cursor& cursor) {
  constexpr std::uint32_t magic = 0x46554747;  // "GGUF"
  const auto found = cursor.number<std::uint32_t>("the magic number");
  if (found != magic) throw InputError("{}: not a GGUF file: begins with {:#x}, expected {:#x}", cursor.path(), found, magic);
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

Gguf open_gguf(const std::filesystem::path& path) {
  const auto file = std::make_shared<const MappedFile>(path);
  Gguf gguf;
  gguf.path = file->path();
  const std::size_t file_index = gguf.weights.add_file(file);

  Cursor cursor(*file);
  check_version(cursor);
  const auto tensor_count = cursor.number<std::uint64_t>("the number of tensors");
  const auto key_count = cursor.number<std::uint64_t>("the number of metadata keys");
  for (std::uint64_t i = 0; i < key_count; ++i) {
    const std::string key = cursor.string("a metadata key");
    const bool is_new = gguf.metadata.emplace(key, read_value(cursor, "metadata key '" + key + "'")).second;
    if (!is_new) throw InputError("{}: metadata key '{}' appears twice", gguf.path, key);
  }
  if (const auto parts = gguf.get_or<std::int64_t>("split.count", 1); parts > 1) {
    throw InputError("{}: one of {} parts of a split model; join them with llama-gguf-split --merge", gguf.path, parts);
  }
  const auto alignment = gguf.get_or<std::int64_t>("general.alignment", 32);
  if (alignment <= 0 || !std::has_single_bit(static_cast<std::uint64_t>(alignment))) {
    throw InputError("{}: general.alignment is {}, expected a power of two", gguf.path, alignment);
  }

  std::vector<TensorInfo> tensors;
  for (std::uint64_t i = 0; i < tensor_count; ++i) tensors.push_back(read_tensor(cursor));
  const std::uint64_t mask = static_cast<std::uint64_t>(alignment) - 1;
  const std::uint64_t data_start = (cursor.position() + mask) & ~mask;
  for (TensorInfo& tensor : tensors) {
    if (tensor.offset > file->size() || (tensor.offset & mask) != 0) {
      throw InputError("{}: tensor '{}' has the offset {}, expected a multiple of {} inside the file of {} bytes",
                       gguf.path, tensor.name, tensor.offset, alignment, file->size());
    }
    tensor.file = file_index;
    tensor.offset += data_start;
    gguf.weights.add(std::move(tensor));
  }
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

}  // namespace grist::io
