#include <grist/model/initialize.hpp>

#include <grist/core/philox.hpp>
#include <grist/io/safetensors.hpp>
#include <grist/model/tensor_table.hpp>

#include <algorithm>

namespace grist {
namespace {

/// Elements first ... first + count of a tensor; first is a multiple of 4, four numbers come of one Philox block.
template <class T>
void draw(const TensorRow& row, std::uint64_t seed, float deviation, Index first, std::vector<T>& out) {
  const PhiloxStream stream{seed, hash_name(row.name)};
  const Index count = static_cast<Index>(out.size());
  T* values = out.data();
  const Initial initial = row.initial;
  Kokkos::parallel_for(
      "grist::initialize", Indices<HostExec>(0, (count + 3) / 4), [=](Index block) {
        const PhiloxBlock bits = stream.at(static_cast<std::uint64_t>(first / 4 + block));
        const NormalPair a = normal_pair(bits.word[0], bits.word[1]), b = normal_pair(bits.word[2], bits.word[3]);
        const float drawn[4] = {a.first, a.second, b.first, b.second};
        for (Index i = 0; i < 4 && block * 4 + i < count; ++i) {
          const float value = initial == Initial::ones ? 1.0F : initial == Initial::zeros ? 0.0F : deviation * drawn[i];
          values[block * 4 + i] = T(value);
        }
      });
  HostExec().fence("grist::initialize: before writing");
}

template <class T>
void write_all(const ModelSpec& spec, std::uint64_t seed, const std::filesystem::path& folder, const Progress& progress) {
  std::vector<TensorRow> rows;
  std::vector<io::TensorHeader> headers;
  for (auto& row : tensor_table(spec)) {
    if (!row.tied_to.empty()) continue;
    headers.push_back({row.name, dtype_of<T>, row.shape});
    rows.push_back(std::move(row));
  }
  io::SafetensorsWriter writer(folder / "model.safetensors", headers);
  const std::uint64_t total = static_cast<std::uint64_t>(parameter_count(spec)) * sizeof(T);
  std::uint64_t done = 0;
  std::vector<T> piece;
  for (const auto& row : rows) {
    constexpr Index most = Index{1} << 24;
    const Index size = row.rows() * row.columns();
    for (Index first = 0; first < size; first += most) {
      piece.resize(static_cast<std::size_t>(std::min(most, size - first)));
      draw(row, seed, spec.initializer_range, first, piece);
      writer.write(piece.data(), piece.size() * sizeof(T));
      done += piece.size() * sizeof(T);
      if (progress) progress(done, total);
    }
  }
  writer.close();
}

}  // namespace

void write_initial_weights(const ModelSpec& spec, std::uint64_t seed, const std::filesystem::path& folder,
                           const Progress& progress) {
  switch (spec.stored_type) {
    case DType::f32: return write_all<float>(spec, seed, folder, progress);
    case DType::bf16: return write_all<bf16>(spec, seed, folder, progress);
    case DType::f16: return write_all<f16>(spec, seed, folder, progress);
  }
}

}  // namespace grist
