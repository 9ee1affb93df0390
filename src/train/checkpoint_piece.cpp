#include <grist/train/checkpoint_piece.hpp>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <numeric>
#include <utility>

namespace grist {
namespace {

/// The finalizer of SplitMix64 (Steele et al. 2014) over place and bits.
std::uint64_t mix(std::uint64_t place, std::uint64_t bits) {
  std::uint64_t z = place * 0x9e3779b97f4a7c15ULL + bits * 0xd1b54a32d192ed03ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

template <class Bits>
std::uint64_t sum_of(const std::byte* values, Index first, Index count) {
  std::uint64_t sum = 0;
  for (Index i = 0; i < count; ++i) {
    Bits bits;
    std::memcpy(&bits, values + i * Index{sizeof(Bits)}, sizeof(Bits));
    sum += mix(static_cast<std::uint64_t>(first + i), bits);
  }
  return sum;
}

/// The elements of a run in a range of the flat array, which are neighbours in the run; their offset is that in the
/// range.
Run clipped(Run run, Range held) {
  const auto first_at = [&](Index place) {
    return std::clamp((place - run.offset + run.stride - 1) / run.stride, Index{0}, run.columns);
  };
  const Index begin = first_at(held.begin), end = first_at(held.end);
  return {run.row,   run.column + begin, end - begin, run.offset + begin * run.stride - held.begin,
          run.stride, run.owned};
}

/// Boxes that cover the runs: neighbours in a row make one, equal columns of successive rows make one.
class Boxes {
public:
  explicit Boxes(const std::vector<Index>& shape) : shape_(shape) {}

  void add(Index row, Range columns) {
    const bool new_matrix = shape_.size() == 3 && row % shape_[1] == 0;
    const auto open = open_.find({columns.begin, columns.end});
    if (open != open_.end() && open->second.end == row && !new_matrix) {
      ++open->second.end;
      return;
    }
    if (open != open_.end()) close(columns, open->second);
    open_.insert_or_assign({columns.begin, columns.end}, Range{row, row + 1});
  }
  std::vector<io::Hyperslab> finish() {
    for (const auto& [columns, rows] : open_) close({columns.first, columns.second}, rows);
    return std::move(boxes_);
  }

private:
  void close(Range columns, Range rows) {
    if (shape_.size() == 1)
      boxes_.push_back({{rows.begin}, {rows.size()}});
    else if (shape_.size() == 2)
      boxes_.push_back({{rows.begin, columns.begin}, {rows.size(), columns.size()}});
    else
      boxes_.push_back({{rows.begin / shape_[1], rows.begin % shape_[1], columns.begin},
                        {1, rows.size(), columns.size()}});
  }

  const std::vector<Index>& shape_;
  std::map<std::pair<Index, Index>, Range> open_;
  std::vector<io::Hyperslab> boxes_;
};

template <class F>
void each_run(const std::vector<Run>& runs, F&& f) {
  Kokkos::parallel_for("grist::checkpoint::runs", Indices<HostExec>(0, std::ssize(runs)), f);
  HostExec().fence("grist::checkpoint: runs");
}

template <class T>
void pack_as(const std::vector<Run>& runs, const std::vector<Index>& begins, const float* values, std::byte* packed) {
  each_run(runs, [&, packed](Index r) {
    const Run& run = runs[static_cast<std::size_t>(r)];
    std::byte* const to = packed + begins[static_cast<std::size_t>(r)] * Index{sizeof(T)};
    if (sizeof(T) == sizeof(float) && run.stride == 1) {
      std::memcpy(to, values + run.offset, static_cast<std::size_t>(run.columns) * sizeof(float));
      return;
    }
    for (Index i = 0; i < run.columns; ++i) {
      const T value(values[run.offset + i * run.stride]);
      std::memcpy(to + i * Index{sizeof(T)}, &value, sizeof(T));
    }
  });
}

template <class T>
void unpack_as(const std::vector<Run>& runs, const std::vector<Index>& begins, const std::byte* packed,
               float* values) {
  each_run(runs, [&, packed, values](Index r) {
    const Run& run = runs[static_cast<std::size_t>(r)];
    const std::byte* const from = packed + begins[static_cast<std::size_t>(r)] * Index{sizeof(T)};
    for (Index i = 0; i < run.columns; ++i) {
      T value;
      std::memcpy(&value, from + i * Index{sizeof(T)}, sizeof(T));
      values[run.offset + i * run.stride] = static_cast<float>(value);
    }
  });
}

}  // namespace

FileMatrix::FileMatrix(const std::vector<Index>& shape)
    : rows(std::accumulate(shape.begin(), shape.size() == 1 ? shape.end() : shape.end() - 1, Index{1},
                           std::multiplies())),
      width(shape.size() == 1 ? 1 : shape.back()) {}

std::vector<Range> pieces_of(const std::vector<Index>& shape) {
  const FileMatrix matrix(shape);
  const Index most = std::max<Index>(1, piece_elements / matrix.width);
  std::vector<Range> pieces;
  for (Index row = 0; row < matrix.rows; row += most) pieces.push_back({row, std::min(row + most, matrix.rows)});
  return pieces;
}

Index queued_elements(const std::vector<FileTensor>& tensors, int groups) {
  Index queued = 0, most = 0;
  for (int group = 0; group < groups; ++group) {
    for (const auto& tensor : tensors) {
      for (const Range& rows : pieces_of(tensor.shape)) {
        queued += rows.size() * FileMatrix(tensor.shape).width;
        most = std::max(most, queued);
        if (queued >= piece_elements) queued = 0;
      }
    }
  }
  return most;
}

CheckpointPiece::CheckpointPiece(std::span<const Run> runs, const std::vector<Index>& shape, Range rows, Range held)
    : width_(FileMatrix(shape).width) {
  Boxes boxes(shape);
  Index row = -1;
  Range columns;
  for (auto run = std::ranges::lower_bound(runs, rows.begin, {}, &Run::row); run != runs.end() && run->row < rows.end;
       ++run) {
    const Run part = clipped(*run, held);
    if (part.columns == 0) continue;
    runs_.push_back(part);
    begins_.push_back(begins_.back() + part.columns);
    if (part.row == row && part.column == columns.end) {
      columns.end += part.columns;
    } else {
      if (row >= 0) boxes.add(row, columns);
      row = part.row;
      columns = {part.column, part.column + part.columns};
    }
  }
  if (row >= 0) boxes.add(row, columns);
  boxes_ = boxes.finish();
}

std::optional<Index> CheckpointPiece::place() const {
  if (runs_.empty()) return std::nullopt;
  const Index first = runs_.front().offset;
  for (std::size_t r = 0; r < runs_.size(); ++r)
    if (runs_[r].offset != first + begins_[r] || (runs_[r].stride != 1 && runs_[r].columns > 1)) return std::nullopt;
  return first;
}

void CheckpointPiece::pack(const float* values, DType type, std::byte* packed) const {
  if (type == DType::f32) pack_as<float>(runs_, begins_, values, packed);
  else if (type == DType::bf16) pack_as<bf16>(runs_, begins_, values, packed);
  else pack_as<f16>(runs_, begins_, values, packed);
}

void CheckpointPiece::unpack(const std::byte* packed, DType type, float* values) const {
  if (type == DType::f32) unpack_as<float>(runs_, begins_, packed, values);
  else if (type == DType::bf16) unpack_as<bf16>(runs_, begins_, packed, values);
  else unpack_as<f16>(runs_, begins_, packed, values);
}

std::uint64_t CheckpointPiece::checksum(const std::byte* packed, DType type) const {
  std::uint64_t sum = 0;
  const auto size = static_cast<Index>(size_of(type));
  Kokkos::parallel_reduce(
      "grist::checkpoint::checksum", Indices<HostExec>(0, std::ssize(runs_)),
      [&, packed](Index r, std::uint64_t& part) {
        const Run& run = runs_[static_cast<std::size_t>(r)];
        if (run.owned)
          part += checksum_of(packed + begins_[static_cast<std::size_t>(r)] * size, type, run.row * width_ + run.column,
                              run.columns);
      },
      sum);
  return sum;
}

std::uint64_t checksum_of(const std::byte* values, DType type, Index first, Index count) {
  return type == DType::f32 ? sum_of<std::uint32_t>(values, first, count) : sum_of<std::uint16_t>(values, first, count);
}

}  // namespace grist
