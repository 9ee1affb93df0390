#include <grist/model/parameters.hpp>

#include <grist/core/errors.hpp>
#include <grist/core/staging.hpp>

#include <algorithm>
#include <array>
#include <cstring>

namespace grist {
namespace {

const Source* held_source(const io::Weights& weights, const TensorPart& part, const std::string& base) {
  const auto found =
      std::ranges::find_if(part.sources, [&](const Source& s) { return find_source(weights, s, base) != nullptr; });
  return found == part.sources.end() ? nullptr : &*found;
}

std::string joined(const std::vector<std::string>& names) {
  constexpr std::size_t most = 8;
  std::string result;
  for (std::size_t i = 0; i < std::min(most, names.size()); ++i)
    result += std::format("{}'{}'", i ? ", " : "", names[i]);
  if (names.size() > most) result += std::format(" and {} more", names.size() - most);
  return result;
}

/// Where a rank's rows of a part come from.
struct PartReader {
  std::vector<const io::TensorInfo*> tensors;  // of each expert held; one and the same where one tensor holds all
  std::vector<const std::byte*> data;
  const Source* source;
  Format stored, wanted;
  io::Slice slice;
  Index first_expert;

  /// Whether rows that follow each other here do so in the file.
  [[nodiscard]] bool in_order() const { return !source->transposed && source->group == 0 && source->pair_dim == 0; }

  /// The row of the tensor that row `row` of the slice of a held expert comes from.
  [[nodiscard]] Index file_row(Index expert, Index row) const {
    return source->file_row(slice.row + row) +
           (source->expert_rows > 0 ? (first_expert + expert) * source->expert_rows : 0);
  }

  /// Writes row `row` of the slice of a held expert, as `wanted`.
  void read(Index expert, Index row, std::byte* to) const {
    const auto e = static_cast<std::size_t>(expert);
    const Index from = file_row(expert, row);
    if (source->transposed) return read_transposed(data[e], from, to);
    const std::byte* begin = data[e] + from * row_bytes(stored, tensors[e]->columns());
    if (stored == wanted) {
      std::memcpy(to, begin + row_bytes(stored, slice.column),
                  static_cast<std::size_t>(row_bytes(stored, slice.columns)));
      return;
    }
    std::array<float, 1024> values;
    for (Index done = 0; done < slice.columns; done += std::ssize(values)) {
      const Index count = std::min<Index>(std::ssize(values), slice.columns - done);
      io::decode_row(stored, begin, slice.column + done, count, values.data());
      for (Index i = 0; i < count; ++i) store(values[static_cast<std::size_t>(i)], done + i, to);
    }
  }

private:
  void read_transposed(const std::byte* tensor, Index column, std::byte* to) const {
    const Index width = tensors[0]->columns(), bytes = block_of(stored).bytes;
    float value = 0;
    for (Index i = 0; i < slice.columns; ++i) {
      io::decode_row(stored, tensor + ((slice.column + i) * width + column) * bytes, 0, 1, &value);
      store(value, i, to);
    }
  }
  void store(float value, Index i, std::byte* to) const {
    if (wanted == Format::f32) {
      std::memcpy(to + i * 4, &value, 4);
    } else if (wanted == Format::bf16) {
      const bf16 rounded(value);
      std::memcpy(to + i * 2, &rounded, 2);
    } else {
      const f16 rounded(value);
      std::memcpy(to + i * 2, &rounded, 2);
    }
  }
};

}  // namespace

const io::TensorInfo* find_source(const io::Weights& weights, const Source& source, const std::string& base,
                                  Index expert) {
  const auto name = with_number(source.tensor, expert);
  if (const auto* tensor = weights.find(name)) return tensor;
  return !base.empty() && name.starts_with(base) ? weights.find(name.substr(base.size())) : nullptr;
}

void check_tensors(const io::Weights& weights, const TensorTable& table, const std::string& base,
                   const std::function<bool(const io::TensorInfo&)>& harmless) {
  const std::string file =
      weights.tensors().empty() ? "the model's files" : weights.file_of(weights.tensors().begin()->second);
  std::vector<std::string> missing, unused;
  std::set<std::string, std::less<>> used;
  every_row(table, [&](const TensorRow& row) {
    for (const auto& part : row.parts) {
      if (part.sources.empty()) continue;
      const Source* held = held_source(weights, part, base);
      const Source& source = held != nullptr ? *held : part.sources.front();
      for (Index expert = 0; expert < (source.one_per_expert() ? row.experts : 1); ++expert) {
        const auto* tensor = find_source(weights, source, base, expert);
        if (tensor == nullptr) {
          missing.push_back(with_number(source.tensor, expert));
        } else if (!tensor->foreign.name.empty()) {
          throw InputError("{}: tensor '{}' is of the type {}, expected F32, F16 or BF16", weights.file_of(*tensor),
                           tensor->name, tensor->foreign.name);
        } else if (tensor->shape != source.shape) {
          throw InputError("{}: tensor '{}' has shape {}, the config wants {}", weights.file_of(*tensor), tensor->name,
                           io::text_of(tensor->shape), io::text_of(source.shape));
        } else {
          used.insert(tensor->name);
        }
      }
      if (row.tied || part.split == Split::vocabulary)  // files may hold a tied matrix twice
        for (const Source& other : part.sources)
          if (const auto* tensor = find_source(weights, other, base)) used.insert(tensor->name);
    }
  });
  if (!missing.empty()) throw InputError("{}: tensors that the model needs are missing: {}", file, joined(missing));
  for (const auto& [name, tensor] : weights.tensors())
    if (!used.contains(name) && !harmless(tensor)) unused.push_back(name);
  if (!unused.empty()) throw InputError("{}: tensors that this model does not use: {}", file, joined(unused));
}

Format format_of_part(const io::Weights* weights, const TensorPart& part, const std::string& base,
                      WeightStorage storage, Format assumed) {
  if (storage == WeightStorage::bf16) return Format::bf16;
  if (storage == WeightStorage::f32) return Format::f32;
  if (weights == nullptr) return assumed;
  const Source* source = held_source(*weights, part, base);
  return source == nullptr ? Format::f32 : find_source(*weights, *source, base)->format;
}

std::uint64_t parameter_bytes(const io::Weights* weights, const TensorTable& table, const std::string& base,
                              Range layers, const Shard& shard, WeightStorage storage, Format assumed) {
  std::uint64_t bytes = 0;
  each_row(table, layers, shard, [&](const TensorRow& row, const LayerShard* layer) {
    for (const auto& part : row.parts) {
      const auto slice = slice_of(row, part, shard, layer);
      const Format format = row.vector ? Format::f32 : format_of_part(weights, part, base, storage, assumed);
      bytes +=
          static_cast<std::uint64_t>(experts_of(row, layer).size() * slice.rows * row_bytes(format, slice.columns));
    }
  });
  return bytes;
}

Parameters::Parameters(const io::Weights& weights, const TensorTable& table, const std::string& base, Range layers,
                       const Shard& shard, WeightStorage storage, const Progress& progress)
    : files_(weights), base_(base), shard_(shard), storage_(storage) {
  tensors_.layers.resize(table.layers.size());
  const std::uint64_t total = parameter_bytes(&weights, table, base, layers, shard, storage, Format::f32);
  std::uint64_t done = 0;
  const bool first = layers.begin == 0, last = layers.end == static_cast<Index>(table.layers.size());
  const auto load_one = [&](const LayerShard* layer) {
    return [&, layer](const TensorRow& row, Weight& weight) {
      if (!row.present()) return;
      if (row.vector) load_vector(row, layer, weight);
      else load_matrix(row, layer, weight);
      done += static_cast<std::uint64_t>(bytes_of(weight));
      if (progress) progress(done, total);
    };
  };
  if (first) each_first_tensor(load_one(nullptr), table, tensors_);
  for (auto i = static_cast<std::size_t>(layers.begin); i < static_cast<std::size_t>(layers.end); ++i)
    each_tensor(load_one(&shard.layers[i]), table.layers[i], tensors_.layers[i]);
  if (!last) return;
  if (first && table.head.tied) tensors_.head = tensors_.embedding;
  each_last_tensor(
      [&](const TensorRow& row, Weight& weight) {
        if (weight.empty()) load_one(nullptr)(row, weight);
      },
      table, tensors_);
}

void Parameters::load_vector(const TensorRow& row, const LayerShard* layer, Weight& weight) {
  std::vector<float> values;
  for (const auto& part : row.parts) {
    const auto slice = slice_of(row, part, shard_, layer);
    const std::size_t begin = values.size();
    values.resize(begin + static_cast<std::size_t>(slice.rows), 0.0F);
    const Source* source = held_source(files_, part, base_);
    if (source == nullptr) continue;
    const auto* tensor = find_source(files_, *source, base_);
    std::vector<float> all(static_cast<std::size_t>(tensor->columns()));
    files_.read(*tensor, {0, 1, 0, tensor->columns()}, all.data());
    for (Index i = 0; i < slice.rows; ++i)
      values[begin + static_cast<std::size_t>(i)] =
          all[static_cast<std::size_t>(source->file_row(slice.row + i))] + (source->plus_one ? 1.0F : 0.0F);
  }
  const auto size = std::ssize(values);
  auto& memory = memory_.emplace_back("parameter", size * Index{sizeof(float)});
  const View2<float> to(reinterpret_cast<float*>(memory.data()), size, 1);
  Kokkos::deep_copy(to, Kokkos::View<const float**, Kokkos::LayoutRight, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>(
                            values.data(), size, 1));
  weight = Weight(as_const(to));
}

void Parameters::load_matrix(const TensorRow& row, const LayerShard* layer, Weight& weight) {
  constexpr Index alignment = 64;
  const Range experts = experts_of(row, layer);
  std::vector<PartReader> readers;
  std::vector<Index> begins{0};  // bytes of each part in the weight's memory
  for (const auto& part : row.parts) {
    const Source* source = held_source(files_, part, base_);
    PartReader reader{{}, {}, source, {}, {}, slice_of(row, part, shard_, layer), experts.begin};
    for (Index expert = experts.begin; expert < experts.end; ++expert) {
      reader.tensors.push_back(find_source(files_, *source, base_, expert));
      reader.data.push_back(files_.data(*reader.tensors.back()));
      if (reader.tensors.back()->format != reader.tensors.front()->format)
        throw InputError("{}: experts are stored in different formats: '{}' is {}, '{}' is {}",
                         files_.file_of(*reader.tensors[0]), reader.tensors.front()->name,
                         name_of(reader.tensors.front()->format), reader.tensors.back()->name,
                         name_of(reader.tensors.back()->format));
    }
    reader.stored = reader.tensors.front()->format;
    reader.wanted = format_of_part(&files_, part, base_, storage_, Format::f32);
    if (source->transposed && block_of(reader.stored).elements > 1)
      throw InputError("{}: tensor '{}' is {} and lies transposed: blocks cannot be turned",
                       files_.file_of(*reader.tensors[0]), reader.tensors[0]->name, name_of(reader.stored));
    const Index bytes = experts.size() * reader.slice.rows * row_bytes(reader.wanted, reader.slice.columns);
    begins.push_back((begins.back() + bytes + alignment - 1) / alignment * alignment);
    readers.push_back(std::move(reader));
  }
  auto& memory = memory_.emplace_back("parameter", begins.back());
  weight = Weight(readers[0].slice.columns, experts.size());
  for (std::size_t p = 0; p < readers.size(); ++p)
    weight.add({readers[p].wanted, readers[p].slice.rows, memory.data() + begins[p]});

  // The rows of a panel are filled by the threads that will read them: the first touch places a page. Pages of the file
  // are given back piece by piece, so that a large matrix is hardly there twice.
  constexpr Index piece_bytes = Index{16} << 20;
  const Buffer<std::byte, Kokkos::HostSpace> staged("staged parameter", host_reaches_memory ? 0 : begins.back());
  std::byte* const target = host_reaches_memory ? memory.data() : staged.data();
  for (std::size_t p = 0; p < readers.size(); ++p) {
    const PartReader& reader = readers[p];
    const Index rows = reader.slice.rows, bytes = row_bytes(reader.wanted, reader.slice.columns);
    for (Index expert = 0; expert < experts.size(); ++expert) {
      std::byte* const first = target + begins[p] + expert * rows * bytes;
      const auto& tensor = *reader.tensors[static_cast<std::size_t>(expert)];
      const Index piece = reader.in_order() ? std::max<Index>(piece_bytes / std::max<Index>(bytes, 1), 1) : rows;
      for (Index begin = 0; begin < rows; begin += piece) {
        const Index end = std::min(rows, begin + piece);
        Kokkos::parallel_for("grist::parameters::load", Indices<HostExec>(begin, end),
                             [&, expert](Index r) { reader.read(expert, r, first + r * bytes); });
        HostExec().fence("grist::parameters: loaded");
        if (reader.in_order()) files_.release(tensor, reader.file_row(expert, begin), end - begin);
      }
    }
  }
  if (!host_reaches_memory)
    Kokkos::deep_copy(memory.view(), Kokkos::View<const std::byte*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>(
                                         staged.data(), static_cast<std::size_t>(begins.back())));
  for (const auto& reader : readers)
    if (!reader.in_order()) files_.release(*reader.tensors.front(), 0, reader.tensors.front()->rows());
}

}  // namespace grist
