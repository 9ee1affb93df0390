#include <grist/io/gguf_writer.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/gguf_types.hpp>
#include <grist/io/weights.hpp>

#include <array>

namespace grist::io {
namespace {

constexpr std::uint64_t alignment = 32;  // of tensors: what readers take where no key names another

constexpr std::uint64_t aligned(std::uint64_t offset) { return (offset + alignment - 1) / alignment * alignment; }

template <class T>
constexpr ValueType value_type = ValueType::array;
template <>
constexpr ValueType value_type<bool> = ValueType::boolean;
template <>
constexpr ValueType value_type<std::uint32_t> = ValueType::u32;
template <>
constexpr ValueType value_type<std::int32_t> = ValueType::i32;
template <>
constexpr ValueType value_type<float> = ValueType::f32;
template <>
constexpr ValueType value_type<std::string> = ValueType::string;

}  // namespace

void GgufWriter::begin_key(std::string_view key) {
  if (!keys_.emplace(key).second) throw InternalError("{}: metadata key '{}' is set twice", file_.path(), key);
  if (data_start_ != 0) throw InternalError("{}: metadata key '{}' comes behind the data", file_.path(), key);
  put_string(key);
}

void GgufWriter::put_string(std::string_view text) {
  put_number(std::uint64_t{text.size()});
  put(text.data(), text.size());
}

template <class T>
void GgufWriter::put_value(const T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    put_string(value);
  } else if constexpr (std::is_same_v<T, bool>) {
    put_number(static_cast<std::uint8_t>(value));
  } else {
    put_number(value);
  }
}

template <class T>
void GgufWriter::set(std::string_view key, const T& value) {
  begin_key(key);
  put_number(value_type<T>);
  if constexpr (value_type<T> == ValueType::array) {
    put_number(value_type<typename T::value_type>);
    put_number(std::uint64_t{value.size()});
    for (const auto& element : value) put_value(element);
  } else {
    put_value(value);
  }
}

template void GgufWriter::set(std::string_view key, const bool& value);
template void GgufWriter::set(std::string_view key, const std::uint32_t& value);
template void GgufWriter::set(std::string_view key, const float& value);
template void GgufWriter::set(std::string_view key, const std::string& value);
template void GgufWriter::set(std::string_view key, const std::vector<std::int32_t>& value);
template void GgufWriter::set(std::string_view key, const std::vector<float>& value);
template void GgufWriter::set(std::string_view key, const std::vector<std::string>& value);

void GgufWriter::set_encoded(std::string_view key, std::span<const std::byte> value) {
  begin_key(key);
  put(value.data(), value.size());
}

void GgufWriter::add_tensor(std::string_view name, Format format, const std::vector<Index>& shape) {
  if (!names_.emplace(name).second) throw InternalError("{}: tensor '{}' is named twice", file_.path(), name);
  if (data_start_ != 0) throw InternalError("{}: tensor '{}' comes behind the data", file_.path(), name);
  const std::uint64_t begin = tensors_.empty() ? 0 : aligned(tensors_.back().end);
  tensors_.push_back({begin, begin + TensorInfo{.name = {}, .format = format, .shape = shape}.bytes()});
  const auto number = [this]<class T>(T value) { put_into(directory_, &value, sizeof(T)); };
  number(std::uint64_t{name.size()});
  put_into(directory_, name.data(), name.size());
  number(static_cast<std::uint32_t>(shape.size()));
  for (auto extent = shape.rbegin(); extent != shape.rend(); ++extent) number(static_cast<std::uint64_t>(*extent));
  number(tensor_type_of(format));
  number(begin);
}

void GgufWriter::begin_data() {
  std::string head = "GGUF";
  const auto number = [&head]<class T>(T value) { put_into(head, &value, sizeof(T)); };
  number(std::uint32_t{3});
  number(std::uint64_t{tensors_.size()});
  number(std::uint64_t{keys_.size()});
  head += metadata_;
  head += directory_;
  head.resize(aligned(head.size()), '\0');
  file_.write(head.data(), head.size());
  data_start_ = head.size();
}

void GgufWriter::pad_to(std::uint64_t offset) {
  constexpr std::array<char, alignment> zeros{};
  file_.write(zeros.data(), data_start_ + offset - file_.size());
}

void GgufWriter::write(const void* data, std::size_t bytes) {
  if (data_start_ == 0) begin_data();
  const auto* from = static_cast<const std::byte*>(data);
  while (bytes > 0) {
    if (current_ == tensors_.size()) throw InternalError("{}: {} bytes too many", file_.path(), bytes);
    const Tensor& tensor = tensors_[current_];
    if (file_.size() < data_start_ + tensor.begin) pad_to(tensor.begin);
    const auto piece = std::min<std::uint64_t>(bytes, data_start_ + tensor.end - file_.size());
    file_.write(from, piece);
    from += piece;
    bytes -= piece;
    if (file_.size() == data_start_ + tensor.end) ++current_;
  }
}

void GgufWriter::close() {
  if (data_start_ == 0) begin_data();
  if (current_ < tensors_.size())
    throw InternalError("{}: closed before tensor {} of {} was whole", file_.path(), current_ + 1, tensors_.size());
  if (!tensors_.empty()) pad_to(aligned(tensors_.back().end));
  file_.close();
}

}  // namespace grist::io
