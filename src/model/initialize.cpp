#include <grist/model/initialize.hpp>

#include <grist/io/safetensors.hpp>
#include <grist/model/tensor_table.hpp>

#include <algorithm>
#include <array>
#include <functional>
#include <numeric>

namespace grist {
namespace {

/// Elements first ... first + count of a tensor.
template <class T>
void draw(const InitialValues& values, Index first, std::vector<T>& out) {
  constexpr Index piece = 1024;
  const Index count = std::ssize(out);
  Kokkos::parallel_for("grist::initialize", Indices<HostExec>(0, (count + piece - 1) / piece), [&](Index p) {
    std::array<float, piece> drawn;
    const Index begin = p * piece, size = std::min(piece, count - begin);
    values.fill(first + begin, 1, size, drawn.data());
    for (Index i = 0; i < size; ++i)
      out[static_cast<std::size_t>(begin + i)] = T(drawn[static_cast<std::size_t>(i)]);
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
    const InitialValues values(tensor.name, tensor.initial, files.spec.initializer_range, seed);
    for (Index first = 0; first < size; first += most) {
      piece.resize(static_cast<std::size_t>(std::min(most, size - first)));
      draw(values, first, piece);
      writer.write(piece.data(), piece.size() * sizeof(T));
      done += piece.size() * sizeof(T);
      if (progress) progress(done, total);
    }
  }
  writer.close();
}

}  // namespace

InitialValues::InitialValues(std::string_view tensor, Initial initial, float deviation, std::uint64_t seed)
    : stream_{seed, hash_name(tensor)}, initial_(initial), deviation_(deviation) {}

void InitialValues::fill(Index first, Index stride, Index count, float* out) const {
  if (initial_ != Initial::normal) return (void)std::fill_n(out, count, initial_ == Initial::ones ? 1.0F : 0.0F);
  Index held = -1;  // four numbers come of one Philox block
  float drawn[4] = {};
  for (Index i = 0; i < count; ++i) {
    const Index element = first + i * stride;
    if (element / 4 != held) {
      held = element / 4;
      const PhiloxBlock bits = stream_.at(static_cast<std::uint64_t>(held));
      const NormalPair a = normal_pair(bits.word[0], bits.word[1]), b = normal_pair(bits.word[2], bits.word[3]);
      drawn[0] = a.first, drawn[1] = a.second, drawn[2] = b.first, drawn[3] = b.second;
    }
    out[i] = deviation_ * drawn[element % 4];
  }
}

void write_initial_weights(const ModelFiles& files, std::uint64_t seed, const std::filesystem::path& folder,
                           const Progress& progress) {
  switch (files.stored) {
    case Format::f16: return write_all<f16>(files, seed, folder, progress);
    case Format::bf16: return write_all<bf16>(files, seed, folder, progress);
    default: return write_all<float>(files, seed, folder, progress);
  }
}

}  // namespace grist
