#include <grist/io/weights.hpp>

#include <grist/core/errors.hpp>
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
template <class Block, class T>
void read_row(const std::byte* row, Index column, Index columns, T* out) {
  std::array<float, chunk_elements> chunk;
  for (Index done = 0; done < columns;) {
    const Index first = (column + done) / Block::elements;
    const Index skip = (column + done) % Block::elements;
    const Index wanted = std::min(columns - done, chunk_elements - skip);
    const Index blocks = (skip + wanted + Block::elements - 1) / Block::elements;
    for (Index i = 0; i < blocks; ++i)
      load<Block>(row + (first + i) * Index{sizeof(Block)}).decode(chunk.data() + i * Block::elements);
    for (Index i = 0; i < wanted; ++i) out[done + i] = static_cast<T>(chunk[static_cast<std::size_t>(skip + i)]);
    done += wanted;
  }
}

}  // namespace

template <class T>
void decode_row(Format format, const std::byte* row, Index column, Index columns, T* out) {
  with_format(format, [=]<class Block>(Block) { read_row<Block>(row, column, columns, out); });
}

std::string_view type_name_of(const TensorInfo& tensor) {
  return tensor.foreign.name.empty() ? name_of(tensor.format) : std::string_view(tensor.foreign.name);
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
  if (!foreign.name.empty()) return foreign.bytes;
  const auto [block_elements, block_bytes] = block_of(format);
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
  const Index block = tensor.foreign.name.empty() ? block_of(tensor.format).elements : 1;
  if (tensor.columns() % block != 0) {
    throw InputError("{}: tensor '{}' of shape {} is {}: its last dimension must be a multiple of {}", path,
                     tensor.name, text_of(tensor.shape), type_name_of(tensor), block);
  }
  const std::uint64_t size = file.mapping->size();
  const std::uint64_t bytes = tensor.bytes();
  if (bytes > size || tensor.offset > size - bytes) {
    throw InputError("{}: tensor '{}' ({} {}) wants {} bytes from byte {}, the file has {}", path, tensor.name,
                     type_name_of(tensor), text_of(tensor.shape), bytes, tensor.offset, size);
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

const std::byte* Weights::data(const TensorInfo& tensor) const {
  const MappedFile& file = *files_.at(tensor.file).mapping;
  if (!tensor.foreign.name.empty())
    throw InputError("{}: tensor '{}' is of the type {}, which is no weight's", file.path(), tensor.name,
                     tensor.foreign.name);
  return file.data() + tensor.offset;
}

/// Calls read_row(from, i) with the first byte of each of the slice's rows, i counted from 0, on all threads of the
/// host.
template <class ReadRow>
void Weights::for_rows(const TensorInfo& tensor, const Slice& slice, ReadRow read_row) const {
  const MappedFile& file = *files_.at(tensor.file).mapping;
  const auto outside = [](Index first, Index count, Index extent) {
    return first < 0 || count < 0 || first > extent || count > extent - first;
  };
  if (outside(slice.row, slice.rows, tensor.rows()) || outside(slice.column, slice.columns, tensor.columns())) {
    throw InputError("{}: tensor '{}' of shape {} has no rows [{}, +{}) x columns [{}, +{})", file.path(), tensor.name,
                     text_of(tensor.shape), slice.row, slice.rows, slice.column, slice.columns);
  }
  if (slice.rows == 0 || slice.columns == 0) return;

  const Index bytes = row_bytes(tensor.format, tensor.columns());
  const std::uint64_t start = tensor.offset + static_cast<std::uint64_t>(slice.row * bytes);
  const std::byte* const first_row = data(tensor) + slice.row * bytes;
  const auto read_one = [=](Index row) { read_row(first_row + row * bytes, row); };
  if (slice.rows * slice.columns <= serial_elements) {
    for (Index row = 0; row < slice.rows; ++row) read_one(row);
    return;
  }
  file.will_read(start, static_cast<std::uint64_t>(slice.rows * bytes));
  const HostExec host;
  Kokkos::parallel_for("grist::io::read", Indices<HostExec>(host, 0, slice.rows), read_one);
  host.fence("grist::io::read");
}

template <class T>
void Weights::read(const TensorInfo& tensor, const Slice& slice, T* out) const {
  const Index column = slice.column, columns = slice.columns;
  if (plain_dtype(tensor.format) == dtype_of<T>) {
    for_rows(tensor, slice, [=](const std::byte* from, Index row) {
      std::memcpy(out + row * columns, from + column * Index{sizeof(T)}, static_cast<std::size_t>(columns) * sizeof(T));
    });
    return;
  }
  for_rows(tensor, slice, [=, format = tensor.format](const std::byte* from, Index row) {
    decode_row(format, from, column, columns, out + row * columns);
  });
}

void Weights::release(const TensorInfo& tensor, Index row, Index rows) const {
  const Index bytes = row_bytes(tensor.format, tensor.columns());
  files_.at(tensor.file)
      .mapping->release(tensor.offset + static_cast<std::uint64_t>(row * bytes),
                        static_cast<std::uint64_t>(rows * bytes));
}

#define GRIST_INSTANTIATE(T) template void decode_row(Format, const std::byte*, Index, Index, T*);
GRIST_INSTANTIATE(float)
GRIST_INSTANTIATE(bf16)
GRIST_INSTANTIATE(f16)
#undef GRIST_INSTANTIATE

template void Weights::read(const TensorInfo& tensor, const Slice& slice, float* out) const;
template void Weights::read(const TensorInfo& tensor, const Slice& slice, bf16* out) const;
template void Weights::read(const TensorInfo& tensor, const Slice& slice, f16* out) const;

}  // namespace grist::io
