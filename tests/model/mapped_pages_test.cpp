// Pages of mapped files that are brought in together.
#include "support/files.hpp"
#include "support/refuses.hpp"

#include <grist/model/mapped_pages.hpp>

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

namespace grist {
namespace {

#ifdef MADV_POPULATE_READ
constexpr std::uintmax_t bytes = 10 << 20;

std::shared_ptr<io::MappedFile> sparse_file(const std::filesystem::path& path) {
  test::write_file(path, "begins");
  std::filesystem::resize_file(path, bytes);
  return std::make_shared<io::MappedFile>(path);
}
bool populates(const io::MappedFile& file) {
  return ::madvise(const_cast<std::byte*>(file.data()), 1, MADV_POPULATE_READ) == 0;
}

/// Pages of the first 8 MB that are in memory.
std::ptrdiff_t pages_there(const io::MappedFile& file) {
  std::vector<unsigned char> there((8 << 20) / static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)));
  EXPECT_EQ(::mincore(const_cast<std::byte*>(file.data()), 8 << 20, there.data()), 0);
  return std::ranges::count_if(there, [](unsigned char in_memory) { return (in_memory & 1) != 0; });
}

TEST(MappedPages, OfFilesInAnyOrderAreThereThoughMoreThanMayWait) {
  const test::TemporaryFolder folder;
  const std::array files{sparse_file(folder / "a.bin"), sparse_file(folder / "b.bin")};
  if (!populates(*files[0])) GTEST_SKIP() << "this system brings pages in as they are read";
  const std::ptrdiff_t all = (8 << 20) / ::sysconf(_SC_PAGESIZE);
  for (const auto& file : files) EXPECT_LT(pages_there(*file), all / 2);
  MappedPages pages(5 << 20);
  for (const std::size_t offset : {6 << 20, 3, 4 << 20})
    for (const auto& file : files) pages.add(file, file->data() + offset, offset == 3 ? (4 << 20) - 3 : 2 << 20);
  pages.populate();
  for (const auto& file : files) EXPECT_EQ(pages_there(*file), all);
}

/// Read by a kernel, they would end the program by a signal.
TEST(MappedPages, ThatAFileLostMeanwhileAreRefusedByItsName) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "weights.bin";
  constexpr std::uintmax_t left = bytes / 2;
  const auto file = sparse_file(path);
  std::filesystem::resize_file(path, left);
  if (!populates(*file)) GTEST_SKIP() << "this system brings pages in as they are read";
  MappedPages pages;
  pages.add(file, file->data(), left);
  pages.populate();
  pages.add(file, file->data(), bytes);
  EXPECT_THAT([&] { pages.populate(); }, test::Refuses({"weights.bin", "cannot be read"}));
}
#endif

}  // namespace
}  // namespace grist
