#include <grist/model/parameters.hpp>

#include <grist/backends/matvec.hpp>
#include <grist/backends/threads.hpp>
#include <grist/core/errors.hpp>
#include <grist/core/interleaved_rows.hpp>
#include <grist/core/staging.hpp>
#include <grist/model/part_reader.hpp>

#include <algorithm>
#include <iterator>
#include <memory>

namespace grist {
namespace {

std::string joined(const std::vector<std::string>& names) {
  constexpr std::size_t most = 8;
  std::string result;
  for (std::size_t i = 0; i < std::min(most, names.size()); ++i)
    result += std::format("{}'{}'", i ? ", " : "", names[i]);
  if (names.size() > most) result += std::format(" and {} more", names.size() - most);
  return result;
}

/// Bytes of a panel in memory: each begins on a cache line.
Index panel_bytes(Format format, Index rows, Index columns) {
  constexpr Index alignment = 64;
  return (rows * row_bytes(format, columns) + alignment - 1) / alignment * alignment;
}

/// Of all of a weight's panels, or of a vector.
std::uint64_t memory_of(const TensorRow& row, const Weight& weight) {
  Index bytes = row.vector ? bytes_of(weight) : 0;
  for (int p = 0; p < weight.panels && !row.vector; ++p)
    bytes += panel_bytes(weight.panel[p].format, weight.experts * weight.panel[p].rows, weight.columns);
  return static_cast<std::uint64_t>(bytes);
}

/// Whether a product on the stage reads a matrix: rows of the others are looked up, one here and one there.
bool is_multiplied(const TensorTable& table, Range layers, const TensorRow& row) {
  const bool is_head = table.head.tied && layers.begin == 0 && layers.end == static_cast<Index>(table.layers.size());
  return &row != &table.positions && (&row != &table.embedding || is_head);
}

/// A part's rows where the file is mapped: where it stores them as they are wanted, kernels reach it, and all memory is
/// as near to all threads. Null elsewhere.
const std::byte* mapped_rows(const PartReader& reader, Format format) {
  return host_reaches_memory && one_memory_node() ? reader.in_place(format) : nullptr;
}

/// How a part of a matrix will lie in memory at last: its data are null where it is copied.
Panel panel_of(const PartReader& reader, Format format, DType activations, bool multiplied) {
  const Index rows = reader.slice().rows;
  const bool interleaved =
      multiplied && rows % interleaved_rows == 0 && reads_interleaved(activations, format);
  return {format, rows, interleaved ? nullptr : mapped_rows(reader, format), interleaved};
}

/// What WeightStorage says of q8_0 and q4_0.
Format quantized_format(const TensorRow& row, WeightStorage storage) {
  const bool four_bits = storage == WeightStorage::q4_0 && row.least_bits <= 4;
  const Format format = four_bits ? Format::q4_0 : Format::q8_0;
  return row.least_bits <= 8 && row.columns % block_of(format).elements == 0 ? format : Format::bf16;
}

/// Older converters of llama.cpp write a matrix of one row as a vector.
bool same_matrix(const std::vector<Index>& found, const std::vector<Index>& expected) {
  return found == expected || (expected.size() == 2 && expected[0] == 1 && found == std::vector{expected[1]});
}

}  // namespace

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
        } else if (!same_matrix(tensor->shape, source.shape)) {
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

Format format_of_part(const io::Weights* weights, const TensorRow& row, const TensorPart& part, const std::string& base,
                      WeightStorage storage, Format assumed) {
  if (storage == WeightStorage::bf16) return Format::bf16;
  if (storage == WeightStorage::f32) return Format::f32;
  if (storage == WeightStorage::q8_0 || storage == WeightStorage::q4_0) return quantized_format(row, storage);
  if (weights == nullptr) return assumed;
  const Source* source = held_source(*weights, part, base);
  return source == nullptr ? Format::f32 : find_source(*weights, *source, base)->format;
}

Weight weight_without_data(const io::Weights* weights, const TensorRow& row, const std::string& base,
                           const LayerShard* layer, const Shard& shard, WeightStorage storage, Format assumed) {
  Weight weight(slice_of(row, row.parts[0], shard, layer).columns, experts_of(row, layer).size());
  for (const auto& part : row.parts)
    weight.add({row.vector ? Format::f32 : format_of_part(weights, row, part, base, storage, assumed),
                slice_of(row, part, shard, layer).rows, nullptr});
  return weight;
}

std::uint64_t parameter_bytes(const io::Weights* weights, const TensorTable& table, const std::string& base,
                              Range layers, const Shard& shard, WeightStorage storage, Format assumed) {
  std::uint64_t bytes = 0;
  each_row(table, layers, shard, [&](const TensorRow& row, const LayerShard* layer) {
    bytes += memory_of(row, weight_without_data(weights, row, base, layer, shard, storage, assumed));
  });
  return bytes;
}

std::uint64_t mapped_bytes(const io::Weights& weights, const TensorTable& table, const std::string& base, Range layers,
                           const Shard& shard, const ModelNumbers& numbers) {
  std::uint64_t bytes = 0;
  each_row(table, layers, shard, [&](const TensorRow& row, const LayerShard* layer) {
    for (const auto& part : row.parts) {
      if (row.vector) continue;
      const PartReader reader(weights, base, row, part, shard, layer);
      const Format format = format_of_part(&weights, row, part, base, numbers.weights, Format::f32);
      if (panel_of(reader, format, numbers.type, is_multiplied(table, layers, row)).data != nullptr)
        bytes += static_cast<std::uint64_t>(
            panel_bytes(format, experts_of(row, layer).size() * reader.slice().rows, reader.slice().columns));
    }
  });
  return bytes;
}

Parameters::Parameters(const io::Weights& weights, const TensorTable& table, const std::string& base, Range layers,
                       const Shard& shard, const ModelNumbers& numbers, const Progress& progress)
    : files_(weights),
      base_(base),
      shard_(shard),
      numbers_(numbers) {
  tensors_.layers.resize(table.layers.size());
  const std::uint64_t total = parameter_bytes(&weights, table, base, layers, shard, numbers.weights, Format::f32);
  std::uint64_t copied = 0;
  each_row(table, layers, shard, [&](const TensorRow& row, const LayerShard* layer) {
    if (row.vector) return;
    copied += memory_of(row, weight_without_data(&weights, row, base, layer, shard, numbers.weights, Format::f32));
  });
  copied -= mapped_bytes(weights, table, base, layers, shard, numbers);
  if (copied > 0) copied_ = Buffer<std::byte>("parameters", static_cast<Index>(copied));
  if (host_reaches_memory) prefer_large_pages(copied_.data(), copied);
  std::uint64_t done = 0;
  const bool first = layers.begin == 0, last = layers.end == static_cast<Index>(table.layers.size());
  const auto load_one = [&](const LayerShard* layer) {
    return [&, layer](const TensorRow& row, Weight& weight) {
      if (!row.present()) return;
      if (row.vector) load_vector(row, layer, weight);
      else load_matrix(row, layer, is_multiplied(table, layers, row), weight);
      done += memory_of(row, weight);
      if (progress) progress(done, total);
    };
  };
  if (first) each_first_tensor(load_one(nullptr), table, tensors_);
  for (auto i = static_cast<std::size_t>(layers.begin); i < static_cast<std::size_t>(layers.end); ++i)
    each_tensor(load_one(&shard.layers[i]), table.layers[i], tensors_.layers[i]);
  if (last) {
    head_is_embedding_ = first && table.head.tied;
    if (head_is_embedding_) tensors_.head = tensors_.embedding;
    each_last_tensor(
        [&](const TensorRow& row, Weight& weight) {
          if (weight.empty()) load_one(nullptr)(row, weight);
        },
        table, tensors_);
  }
  pages_.populate();
}

void Parameters::interleave_some() {
  waiting_.interleave_some();
  if (head_is_embedding_) tensors_.head = tensors_.embedding;
}

void Parameters::interleave_all() {
  while (waiting()) interleave_some();
}

void Parameters::load_vector(const TensorRow& row, const LayerShard* layer, Weight& weight) {
  std::vector<float> values;
  for (const auto& part : row.parts)
    std::ranges::copy(read_vector(files_, base_, part, slice_of(row, part, shard_, layer)), std::back_inserter(values));
  const auto size = std::ssize(values);
  auto& memory = vectors_.emplace_back("parameter", size * Index{sizeof(float)});
  const View2<float> to(reinterpret_cast<float*>(memory.data()), size, 1);
  Kokkos::deep_copy(to, Kokkos::View<const float**, Kokkos::LayoutRight, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>(
                            values.data(), size, 1));
  weight = Weight(as_const(to));
}

void Parameters::load_matrix(const TensorRow& row, const LayerShard* layer, bool multiplied, Weight& weight) {
  const Range experts = experts_of(row, layer);
  std::vector<PartReader> readers;
  std::vector<Panel> panels;
  for (const auto& part : row.parts) {
    const PartReader& reader = readers.emplace_back(files_, base_, row, part, shard_, layer);
    const Format format = format_of_part(&files_, row, part, base_, numbers_.weights, Format::f32);
    panels.push_back(panel_of(reader, format, numbers_.type, multiplied));
  }
  weight = Weight(readers[0].slice().columns, experts.size());
  for (std::size_t p = 0; p < readers.size(); ++p) {
    const PartReader& reader = readers[p];
    Panel& panel = panels[p];
    const Index rows = experts.size() * panel.rows, bytes = panel_bytes(panel.format, rows, weight.columns);
    const Index stored_bytes = rows * row_bytes(panel.format, weight.columns);
    if (panel.data != nullptr) {
      map(reader, panel.data, stored_bytes);
    } else if (const std::byte* mapped = mapped_rows(reader, panel.format)) {
      map(reader, mapped, stored_bytes);
      weight.add({panel.format, panel.rows, mapped});
      waiting_.add(weight, static_cast<int>(p), reader.mapping(), take(bytes, true));
      continue;
    } else {
      std::byte* const memory = take(bytes, false);
      const Buffer<std::byte, Kokkos::HostSpace> staged("staged parameter", host_reaches_memory ? 0 : bytes);
      copy(reader, experts.size(), panel, host_reaches_memory ? memory : staged.data());
      if (!host_reaches_memory) Kokkos::deep_copy(View1<std::byte>(memory, bytes), staged.view());
      panel.data = memory;
    }
    weight.add(panel);
  }
}

/// Memory for a copy. What waits lies apart from what is written now: a large page of both would be there too early.
std::byte* Parameters::take(Index bytes, bool waits) {
  if (copied_bytes_ + waiting_bytes_ + bytes > copied_.size())
    throw InternalError("more weights are copied than were counted");
  (waits ? waiting_bytes_ : copied_bytes_) += bytes;
  return copied_.data() + (waits ? copied_.size() - waiting_bytes_ : copied_bytes_ - bytes);
}

/// Calls f(expert, first row, rows) for pieces of a part, so that what the system does for one is soon done: a multiple
/// of interleaved_rows, but for the last.
template <class F>
void Parameters::for_pieces(const PartReader& reader, Index experts, Format format, F&& f) {
  constexpr Index piece_bytes = Index{16} << 20;
  const Index rows = reader.slice().rows, bytes = row_bytes(format, reader.slice().columns);
  const Index fitting = piece_bytes / std::max<Index>(bytes, 1) / interleaved_rows * interleaved_rows;
  const Index for_all_threads = interleaved_rows * HostExec().concurrency();
  const bool in_pieces = reader.in_order() && one_memory_node();  // else threads touch first what they will read
  const Index piece = in_pieces ? std::max(fitting, for_all_threads) : rows;
  for (Index expert = 0; expert < experts; ++expert)
    for (Index begin = 0; begin < rows; begin += piece) f(expert, begin, std::min(piece, rows - begin));
}

/// The part, of so many bytes, stays where the file is mapped.
void Parameters::map(const PartReader& reader, const void* first, Index bytes) {
  if (mappings_.empty() || mappings_.back() != reader.mapping()) mappings_.push_back(reader.mapping());
  pages_.add(reader.mapping(), static_cast<const std::byte*>(first), bytes);
}

/// Writes a part. The rows of a panel are filled by the threads that will read them: the first touch places a page.
/// Pages of the file are given back piece by piece, so that a large matrix is hardly there twice.
void Parameters::copy(const PartReader& reader, Index experts, const Panel& panel, std::byte* to) {
  const Format format = panel.format;
  const Index all = reader.slice().rows, columns = reader.slice().columns, bytes = row_bytes(format, columns);
  const Index together = panel.interleaved ? interleaved_rows : 1;
  for_pieces(reader, experts, format, [&](Index expert, Index begin, Index rows) {
    std::byte* const first = to + (expert * all + begin) * bytes;
    Index bad = 0;
    Kokkos::parallel_reduce(
        "grist::parameters::load", Indices<HostExec>(0, rows / together),
        [&, expert](Index i, Index& sum) {
          std::byte* const here = first + i * together * bytes;
          std::unique_ptr<std::byte[]> apart;
          if (panel.interleaved)
            apart = std::make_unique_for_overwrite<std::byte[]>(static_cast<std::size_t>(together * bytes));
          std::byte* const out = panel.interleaved ? apart.get() : here;
          for (Index r = 0; r < together; ++r)
            sum += !reader.read(expert, begin + i * together + r, format, out + r * bytes);
          if (panel.interleaved) interleave(format, apart.get(), columns, here);
        },
        bad);
    if (bad > 0 && block_of(format).elements > 1)
      throw InputError("{}: tensor '{}' holds a number that is not finite or too large for {}", reader.file(),
                       reader.tensor(expert), name_of(format));
    if (reader.in_order()) reader.release(expert, begin, rows);
  });
  if (!reader.in_order()) reader.release();
}

}  // namespace grist
