#include <grist/model/initialize.hpp>

#include <grist/core/philox.hpp>
#include <grist/io/safetensors.hpp>
#include <grist/model/tensor_table.hpp>

#include <algorithm>
#include <functional>
#include <numeric>

namespace grist {
namespace {

/// Elements first ... first + count of a tensor; first is a multiple of 4, four numbers come of one Philox block.
template <class T>
void draw(const FileTensor& tensor, std::uint64_t seed, float deviation, Index first, std::vector<T>& out) {
  const PhiloxStream stream{seed, hash_name(tensor.name)};
  const Index count = static_cast<Index>(out.size());
  T* values = out.data();
  const Initial initial = tensor.initial;
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
void write_all(const ModelFiles& files, std::uint64_t seed, const std::filesystem::path& folder,
               const Progress& progress) {
  const auto tensors = file_tensors(tensor_table(files.spec, files.names));
  std::vector<io::TensorHeader> headers;
  std::uint64_t total = 0, done = 0;
  const auto size_of_tensor = [](const FileTensor& tensor) {
    return std::accumulate(tensor.shape.begin(), tensor.shape.end(), Index{1}, std::multiplies());
  };
  for (const auto& tensor : tensors) {
    headers.push_back({tensor.name, dtype_of<T>, tensor.shape});
    total += static_cast<std::uint64_t>(size_of_tensor(tensor)) * sizeof(T);
  }
  io::SafetensorsWriter writer(folder / "model.safetensors", headers);
  std::vector<T> piece;
  for (const auto& tensor : tensors) {
    constexpr Index most = Index{1} << 24;
    const Index size = size_of_tensor(tensor);
    for (Index first = 0; first < size; first += most) {
      piece.resize(static_cast<std::size_t>(std::min(most, size - first)));
      draw(tensor, seed, files.spec.initializer_range, first, piece);
      writer.write(piece.data(), piece.size() * sizeof(T));
      done += piece.size() * sizeof(T);
      if (progress) progress(done, total);
    }
  }
  writer.close();
}

}  // namespace

void write_initial_weights(const ModelFiles& files, std::uint64_t seed, const std::filesystem::path& folder,
                           const Progress& progress) {
  switch (files.stored) {
    case Format::f16: return write_all<f16>(files, seed, folder, progress);
    case Format::bf16: return write_all<bf16>(files, seed, folder, progress);
    default: return write_all<float>(files, seed, folder, progress);
  }
}

}  // namespace grist
