#include <grist/model/mapped_pages.hpp>

#include <algorithm>
#include <exception>
#include <mutex>
#include <utility>

namespace grist {

void MappedPages::add(const std::shared_ptr<const io::MappedFile>& file, const std::byte* first, Index bytes) {
  for (Index done = 0; done < bytes; done += piece_bytes) {
    if (std::ssize(pieces_) * piece_bytes >= most_) populate();
    pieces_.push_back({file, static_cast<std::uint64_t>(first - file->data() + done),
                       static_cast<std::uint64_t>(std::min(piece_bytes, bytes - done))});
  }
}

void MappedPages::populate() {
  auto pieces = std::exchange(pieces_, {});
  std::ranges::sort(pieces, {}, [](const Piece& piece) { return std::pair(piece.file.get(), piece.offset); });
  const Index count = std::ssize(pieces), threads = HostExec().concurrency();
  std::exception_ptr failed;
  std::mutex mutex;
  Kokkos::parallel_for("grist::mapped_pages::populate", Indices<HostExec>(0, threads), [&](Index thread) {
    try {
      for (Index i = thread * count / threads; i < (thread + 1) * count / threads; ++i) {
        const Piece& piece = pieces[static_cast<std::size_t>(i)];
        piece.file->populate(piece.offset, piece.bytes);
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      failed = std::current_exception();
    }
  });
  HostExec().fence("grist::mapped_pages: there");
  if (failed) std::rethrow_exception(failed);
}

}  // namespace grist
