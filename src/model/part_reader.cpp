#include <grist/model/part_reader.hpp>

#include <grist/core/errors.hpp>
#include <grist/core/quantize.hpp>

#include <algorithm>
#include <array>
#include <cstring>

namespace grist {
namespace {

constexpr Index chunk = 1024;  // numbers at a time: whole blocks of any format, at home in the first cache

}  // namespace

const io::TensorInfo* find_source(const io::Weights& weights, const Source& source, const std::string& base,
                                  Index expert) {
  const auto name = with_number(source.tensor, expert);
  if (const auto* tensor = weights.find(name)) return tensor;
  return !base.empty() && name.starts_with(base) ? weights.find(name.substr(base.size())) : nullptr;
}

const Source* held_source(const io::Weights& weights, const TensorPart& part, const std::string& base) {
  const auto found =
      std::ranges::find_if(part.sources, [&](const Source& s) { return find_source(weights, s, base) != nullptr; });
  return found == part.sources.end() ? nullptr : &*found;
}

PartReader::PartReader(const io::Weights& files, const std::string& base, const TensorRow& row, const TensorPart& part,
                       const Shard& shard, const LayerShard* layer)
    : files_(files),
      source_(*held_source(files, part, base)),
      slice_(slice_of(row, part, shard, layer)),
      first_expert_(experts_of(row, layer).begin) {
  const Range experts = experts_of(row, layer);
  for (Index expert = experts.begin; expert < experts.end; ++expert) {
    tensors_.push_back(find_source(files, source_, base, expert));
    data_.push_back(files.data(*tensors_.back()));
    if (tensors_.back()->format != tensors_.front()->format)
      throw InputError("{}: experts are stored in different formats: '{}' is {}, '{}' is {}",
                       files.file_of(*tensors_[0]), tensors_.front()->name, name_of(tensors_.front()->format),
                       tensors_.back()->name, name_of(tensors_.back()->format));
  }
  stored_ = tensors_.front()->format;
  if (source_.transposed && block_of(stored_).elements > 1)
    throw InputError("{}: tensor '{}' is {} and lies transposed: blocks cannot be turned", files.file_of(*tensors_[0]),
                     tensors_[0]->name, name_of(stored_));
}

Index PartReader::file_row(Index expert, Index row) const {
  return source_.file_row(slice_.row + row) +
         (source_.expert_rows > 0 ? (first_expert_ + expert) * source_.expert_rows : 0);
}

bool PartReader::read(Index expert, Index row, Format wanted, std::byte* to) const {
  const auto e = static_cast<std::size_t>(expert);
  const Index from = file_row(expert, row);
  if (source_.transposed) return read_transposed(data_[e], from, wanted, to);
  const std::byte* begin = data_[e] + from * row_bytes(stored_, tensors_[e]->columns());
  if (stored_ == wanted) {
    std::memcpy(to, begin + row_bytes(stored_, slice_.column),
                static_cast<std::size_t>(row_bytes(stored_, slice_.columns)));
    return true;
  }
  std::array<float, chunk> values;
  bool finite = true;
  for (Index done = 0; done < slice_.columns; done += chunk) {
    const Index count = std::min(chunk, slice_.columns - done);
    io::decode_row(stored_, begin, slice_.column + done, count, values.data());
    finite = encode_row(wanted, values.data(), count, to + row_bytes(wanted, done)) && finite;
  }
  return finite;
}

bool PartReader::read_transposed(const std::byte* tensor, Index column, Format wanted, std::byte* to) const {
  const Index width = tensors_[0]->columns(), bytes = block_of(stored_).bytes;
  std::array<float, chunk> values;
  bool finite = true;
  for (Index done = 0; done < slice_.columns; done += chunk) {
    const Index count = std::min(chunk, slice_.columns - done);
    for (Index i = 0; i < count; ++i)
      io::decode_row(stored_, tensor + ((slice_.column + done + i) * width + column) * bytes, 0, 1,
                     &values[static_cast<std::size_t>(i)]);
    finite = encode_row(wanted, values.data(), count, to + row_bytes(wanted, done)) && finite;
  }
  return finite;
}

const std::byte* PartReader::in_place(Format wanted) const {
  const auto experts = std::ssize(tensors_);
  const bool whole_rows = slice_.column == 0 && slice_.columns == tensors_.front()->columns();
  const bool together = experts == 1 || (!source_.one_per_expert() && source_.expert_rows == slice_.rows);
  if (wanted != stored_ || !in_order() || !whole_rows || !together) return nullptr;
  const std::byte* const first = data_.front() + file_row(0, 0) * row_bytes(stored_, slice_.columns);
  const auto boundary = with_format(stored_, []<class Block>(Block) { return alignof(Block); });
  return reinterpret_cast<std::uintptr_t>(first) % boundary == 0 ? first : nullptr;
}

bool PartReader::in_order() const { return !source_.transposed && source_.group == 0 && source_.pair_dim == 0; }

void PartReader::release(Index expert, Index row, Index rows) const {
  files_.release(*tensors_[static_cast<std::size_t>(expert)], file_row(expert, row), rows);
}

void PartReader::release() const {
  for (const auto* tensor : source_.one_per_expert() ? tensors_ : std::vector{tensors_.front()})
    files_.release(*tensor, 0, tensor->rows());
}

std::vector<float> read_vector(const io::Weights& files, const std::string& base, const TensorPart& part,
                               const io::Slice& slice) {
  std::vector<float> values(static_cast<std::size_t>(slice.rows), 0.0F);
  const Source* source = held_source(files, part, base);
  if (source == nullptr) return values;
  const auto* tensor = find_source(files, *source, base);
  std::vector<float> all(static_cast<std::size_t>(tensor->columns()));
  files.read(*tensor, {0, 1, 0, tensor->columns()}, all.data());
  for (Index i = 0; i < slice.rows; ++i)
    values[static_cast<std::size_t>(i)] =
        all[static_cast<std::size_t>(source->file_row(slice.row + i))] + (source->plus_one ? 1.0F : 0.0F);
  return values;
}

}  // namespace grist
