// Pages of mapped files that are brought in together.
#include "support/files.hpp"
#include "support/refuses.hpp"

#include <grist/model/mapped_pages.hpp>

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <span>

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

TEST(MappedPages, OfFilesInAnyOrderAreThereThoughMoreThanMayWait) {
  const test::TemporaryFolder folder;
  const std::array files{sparse_file(folder / "a.bin"), sparse_file(folder / "b.bin")};
  if (!populates(*files[0])) GTEST_SKIP() << "this system brings pages in as they are read";
  MappedPages pages(5 << 20);
  for (const std::size_t offset : {6 << 20, 3, 4 << 20})
    for (const auto& file : files) pages.add(file, file->data() + offset, offset == 3 ? (4 << 20) - 3 : 2 << 20);
  pages.populate();
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  for (const auto& file : files) {
    std::vector<unsigned char> there(bytes / page);
    ASSERT_EQ(::mincore(const_cast<std::byte*>(file->data()), bytes, there.data()), 0);
    const auto wanted = std::span(there).first((8 << 20) / page);
    EXPECT_TRUE(std::ranges::all_of(wanted, [](unsigned char in_memory) { return (in_memory & 1) != 0; }));
    EXPECT_EQ(there.back() & 1, 0) << "what was not asked for";
  }
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
