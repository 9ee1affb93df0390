#include <grist/model/parameters.hpp>

#include <grist/core/errors.hpp>

#include <algorithm>
#include <set>

namespace grist {
namespace {

std::string file_name(const ModelFiles& files, const Family& family, std::string_view name) {
  return files.gguf ? family.gguf_name(name) : std::string(name);
}

std::string joined(const std::vector<std::string>& names) {
  constexpr std::size_t most = 8;
  std::string result;
  for (std::size_t i = 0; i < std::min(most, names.size()); ++i) result += std::format("{}'{}'", i ? ", " : "", names[i]);
  if (names.size() > most) result += std::format(" and {} more", names.size() - most);
  return result;
}

std::string any_file(const ModelFiles& files) {
  return files.weights.tensors().empty() ? std::string("the model's files")
                                         : files.weights.file_of(files.weights.tensors().begin()->second);
}

/// Every tensor that the model needs is there with its shape, and every tensor that is there has a use.
void check_files(const ModelFiles& files, const Family& family) {
  std::vector<std::string> missing;
  std::set<std::string, std::less<>> known;
  for (const auto& row : tensor_table(files.spec)) {
    const auto name = file_name(files, family, row.name);
    known.insert(name);
    const auto* tensor = files.weights.find(name);
    if (tensor == nullptr) {
      if (row.tied_to.empty()) missing.push_back(name);
    } else if (tensor->shape != row.shape) {
      throw InputError("{}: tensor '{}' has shape {}, the config wants {}", files.weights.file_of(*tensor), name,
                       io::text_of(tensor->shape), io::text_of(row.shape));
    }
  }
  if (!missing.empty()) throw InputError("{}: tensors that the model needs are missing: {}", any_file(files), joined(missing));
  std::vector<std::string> unused;
  for (const auto& [name, tensor] : files.weights.tensors())
    if (!known.contains(name) && !family.derived(name)) unused.push_back(name);
  if (!unused.empty())
    throw InputError("{}: tensors that this model does not use: {}", any_file(files), joined(unused));
}

/// Reads whole RoPE heads whose rows lie as adjacent pairs and puts them in halves: row (half, i) from row (i, half).
template <class Out>
void read_paired_heads(const io::Weights& weights, const io::TensorInfo& tensor, const io::Slice& slice, Index head_dim,
                       Out* out) {
  const bool vector = tensor.shape.size() == 1;
  const Index count = vector ? slice.columns : slice.rows, width = vector ? 1 : slice.columns;
  std::vector<Out> raw(static_cast<std::size_t>(count * width));
  weights.read(tensor, slice, raw.data());
  for (Index row = 0; row < count; ++row) {
    const Index head = row / head_dim, half = row % head_dim / (head_dim / 2), i = row % (head_dim / 2);
    std::copy_n(raw.data() + (head * head_dim + 2 * i + half) * width, width, out + row * width);
  }
}

/// Fills a piece of a parameter in device memory.
template <class Out>
void load(const ModelFiles& files, const Family& family, const TensorRow& row, const io::Slice& slice, View1<Out> to) {
  // A tied tensor's own copy in the file is not read: every layout computes with the one that it is tied to.
  const auto* tensor = files.weights.find(file_name(files, family, row.tied_to.empty() ? row.name : row.tied_to));
  const auto host = Kokkos::create_mirror_view(Kokkos::HostSpace{}, to);
  if (files.gguf && family.gguf_pairs_rows(row.name))
    read_paired_heads(files.weights, *tensor, slice, files.spec.head_dim, host.data());
  else
    files.weights.read(*tensor, slice, host.data());
  Kokkos::deep_copy(to, host);
}

bool held(const TensorRow& row, bool first_of_tp) { return first_of_tp || !row.on_one_rank; }

}  // namespace

template <class T>
Parameters<T>::Parameters(const ModelFiles& files, const std::vector<TensorRow>& rows, const TensorShard& shard,
                          bool first_of_tp, const Progress& progress) {
  const Family& family = family_named(files.spec.family);
  check_files(files, family);
  std::map<std::string, Index> vector_sizes;
  for (const auto& row : rows) {
    if (!held(row, first_of_tp)) continue;
    const auto slice = slice_of(row, shard);
    if (row.is_matrix()) {
      auto& matrix = matrices_[row.parameter];
      matrix.rows += slice.rows;
      matrix.columns = slice.columns;
    } else {
      vector_sizes[row.parameter] += slice.columns;
    }
  }
  for (auto& [name, matrix] : matrices_) matrix.memory = Buffer<T>("parameter " + name, matrix.rows * matrix.columns);
  for (const auto& [name, size] : vector_sizes) vectors_.emplace(name, Buffer<float>("parameter " + name, size));

  const std::uint64_t total = parameter_bytes(rows, shard, dtype_of<T>);
  std::uint64_t done = 0;
  std::map<std::string, Index> filled;
  for (const auto& row : rows) {
    if (!held(row, first_of_tp)) continue;
    const auto slice = slice_of(row, shard);
    const Index size = slice.rows * slice.columns;
    Index& offset = filled[row.parameter];
    if (row.is_matrix()) {
      load(files, family, row, slice, View1<T>(matrices_.at(row.parameter).memory.data() + offset, size));
      done += static_cast<std::uint64_t>(size) * sizeof(T);
    } else {
      load(files, family, row, slice, View1<float>(vectors_.at(row.parameter).data() + offset, size));
      done += static_cast<std::uint64_t>(size) * sizeof(float);
    }
    offset += size;
    if (progress) progress(done, total);
  }
}

template <class T>
View2<const T> Parameters<T>::matrix(std::string_view name) const {
  const auto found = matrices_.find(name);
  if (found == matrices_.end()) return {};
  return View2<const T>(found->second.memory.data(), found->second.rows, found->second.columns);
}

template <class T>
View1<const float> Parameters<T>::vector(std::string_view name) const {
  const auto found = vectors_.find(name);
  if (found == vectors_.end()) return {};
  return found->second.view();
}

template class Parameters<float>;
template class Parameters<bf16>;

std::uint64_t parameter_bytes(const std::vector<TensorRow>& rows, const TensorShard& shard, DType type) {
  std::uint64_t bytes = 0;
  for (const auto& row : rows) {
    const auto slice = slice_of(row, shard);
    bytes += static_cast<std::uint64_t>(slice.rows * slice.columns) * (row.is_matrix() ? size_of(type) : sizeof(float));
  }
  return bytes;
}

}  // namespace grist
