// Pages of mapped files, brought in before kernels read them.
#pragma once

#include <grist/core/view.hpp>
#include <grist/io/mapped_file.hpp>

#include <cstdint>
#include <memory>
#include <vector>

namespace grist {

/// Waits until there is much to bring in: each thread then reads a long stretch of a file in order. For one matrix at a
/// time threads would wait for each other, at its end and for the tables that its pages share, and the system would
/// cache in smaller pieces what is read out of order, which take longer to map at every later start.
class MappedPages {
public:
  /// `most` bytes wait at most.
  explicit MappedPages(Index most = Index{1} << 30) : most_(most) {}

  /// Bytes of a file from `first` on, which lies in its mapping. Throws InputError where the file cannot be read.
  void add(const std::shared_ptr<const io::MappedFile>& file, const std::byte* first, Index bytes);

  /// Brings in what still waits. Throws InputError.
  void populate();

private:
  static constexpr Index piece_bytes = Index{4} << 20;  // so that what the system does for one is soon done
  struct Piece {
    std::shared_ptr<const io::MappedFile> file;
    std::uint64_t offset, bytes;
  };
  std::vector<Piece> pieces_;
  Index most_;
};

}  // namespace grist
