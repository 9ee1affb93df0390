#include <grist/io/weights.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/dequantize.hpp>
#include <grist/io/mapped_file.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <span>
#include <utility>

namespace grist::io {
namespace {

constexpr Index too_many = std::numeric_limits<Index>::max();

/// a x b for numbers >= 0, or too_many.
Index saturated_product(Index a, Index b) {
  Index product = 0;
  return __builtin_mul_overflow(a, b, &product) ? too_many : product;
}

constexpr Index serial_elements = 1 << 16;  // below this, starting threads costs more than it saves
constexpr Index chunk_elements = 1024;      // decoded at a time: whole blocks of any format, at home in the first cache

/// Numbers [column, column + columns) of a row. Blocks are decoded whole, and the part asked for is kept.
template <class T>
void read_row(FileType type, const std::byte* row, Index column, Index columns, T* out) {
  const auto [block_elements, block_bytes] = format_of(type);
  std::array<float, chunk_elements> chunk;
  for (Index done = 0; done < columns;) {
    const Index first = (column + done) / block_elements;
    const Index skip = (column + done) % block_elements;
    const Index wanted = std::min(columns - done, chunk_elements - skip);
    const Index blocks = (skip + wanted + block_elements - 1) / block_elements;
    dequantize(type, row + first * block_bytes, blocks, chunk.data());
    for (Index i = 0; i < wanted; ++i) out[done + i] = static_cast<T>(chunk[static_cast<std::size_t>(skip + i)]);
    done += wanted;
  }
}

template <class T>
bool is_stored_as(FileType type) {
  switch (type) {
    case FileType::f32: return dtype_of<T> == DType::f32;
    case FileType::bf16: return dtype_of<T> == DType::bf16;
    case FileType::f16: return dtype_of<T> == DType::f16;
    default: return false;
  }
}

}  // namespace

std::string_view name_of(FileType type) {
  constexpr std::array<std::string_view, 8> names = {"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q4_k", "q6_k"};
  return names.at(static_cast<std::size_t>(type));
}

std::string text_of(const std::vector<Index>& shape) {
  std::string text = "[";
  for (const Index extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

Index TensorInfo::rows() const {
  Index rows = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) rows = saturated_product(rows, shape[i]);
  return rows;
}

Index TensorInfo::columns() const { return shape.empty() ? 1 : shape.back(); }

std::uint64_t TensorInfo::bytes() const {
  const auto [block_elements, block_bytes] = format_of(type);
  if (rows() == too_many) return too_many;
  return static_cast<std::uint64_t>(
      saturated_product(rows(), saturated_product(columns() / block_elements, block_bytes)));
}

const TensorInfo* Weights::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

std::string Weights::file_of(const TensorInfo& tensor) const { return files_.at(tensor.file).mapping->path(); }

std::size_t Weights::add_file(std::shared_ptr<const MappedFile> file) {
  files_.push_back({std::move(file), {}});
  return files_.size() - 1;
}

void Weights::add(TensorInfo tensor) {
  File& file = files_.at(tensor.file);
  const std::string& path = file.mapping->path();
  if (const Index block = format_of(tensor.type).elements; tensor.columns() % block != 0) {
    throw InputError("{}: tensor '{}' of shape {} is {}: its last dimension must be a multiple of {}", path, tensor.name,
                     text_of(tensor.shape), name_of(tensor.type), block);
  }
  const std::uint64_t size = file.mapping->size();
  const std::uint64_t bytes = tensor.bytes();
  if (bytes > size || tensor.offset > size - bytes) {
    throw InputError("{}: tensor '{}' ({} {}) wants {} bytes from byte {}, the file has {}", path, tensor.name,
                     name_of(tensor.type), text_of(tensor.shape), bytes, tensor.offset, size);
  }
  if (bytes > 0) {
    const auto next = file.placed.lower_bound(tensor.offset);
    const TensorInfo* other = nullptr;
    if (next != file.placed.end() && next->first < tensor.offset + bytes) other = find(next->second);
    if (next != file.placed.begin()) {
      const TensorInfo* before = find(std::prev(next)->second);
      if (before->offset + before->bytes() > tensor.offset) other = before;
    }
    if (other != nullptr) throw InputError("{}: tensors '{}' and '{}' overlap", path, other->name, tensor.name);
  }
  if (const TensorInfo* same = find(tensor.name)) {
    throw InputError("{}: tensor '{}' is already in {}", path, tensor.name, file_of(*same));
  }
  if (bytes > 0) file.placed.emplace(tensor.offset, tensor.name);
  std::string name = tensor.name;
  tensors_.emplace(std::move(name), std::move(tensor));
}

template <class T>
void Weights::read(const TensorInfo& tensor, const Slice& slice, T* out) const {
  const MappedFile& file = *files_.at(tensor.file).mapping;
  const auto outside = [](Index first, Index count, Index extent) {
    return first < 0 || count < 0 || first > extent || count > extent - first;
  };
  if (outside(slice.row, slice.rows, tensor.rows()) || outside(slice.column, slice.columns, tensor.columns())) {
    throw InputError("{}: tensor '{}' of shape {} has no rows [{}, +{}) x columns [{}, +{})", file.path(), tensor.name,
                     text_of(tensor.shape), slice.row, slice.rows, slice.column, slice.columns);
  }
  if (slice.rows == 0 || slice.columns == 0) return;

  const auto [block_elements, block_bytes] = format_of(tensor.type);
  const Index row_bytes = tensor.columns() / block_elements * block_bytes;
  const std::uint64_t start = tensor.offset + static_cast<std::uint64_t>(slice.row * row_bytes);
  const std::byte* const first_row = file.data() + start;
  const auto read_one = [=, type = tensor.type](Index row) {
    const std::byte* const from = first_row + row * row_bytes;
    T* const to = out + row * slice.columns;
    if (is_stored_as<T>(type)) {
      std::memcpy(to, from + slice.column * Index{sizeof(T)}, static_cast<std::size_t>(slice.columns) * sizeof(T));
    } else {
      read_row(type, from, slice.column, slice.columns, to);
    }
  };
  if (slice.rows * slice.columns <= serial_elements) {
    for (Index row = 0; row < slice.rows; ++row) read_one(row);
    return;
  }
  file.will_read(start, static_cast<std::uint64_t>(slice.rows * row_bytes));
  const HostExec host;
  Kokkos::parallel_for("grist::io::read", Indices<HostExec>(host, 0, slice.rows), read_one);
  host.fence("grist::io::read");
}

template void Weights::read(const TensorInfo& tensor, const Slice& slice, float* out) const;
template void Weights::read(const TensorInfo& tensor, const Slice& slice, bf16* out) const;
template void Weights::read(const TensorInfo& tensor, const Slice& slice, f16* out) const;

}  // namespace grist::io
