// Pages of mapped files that are brought in together.
#include "support/files.hpp"
#include "support/refuses.hpp"

#include <grist/model/mapped_pages.hpp>

#include <gtest/gtest.h>
#include <sys/mman.h>

namespace grist {
namespace {

#ifdef MADV_POPULATE_READ
/// Read by a kernel, they would end the program by a signal.
TEST(MappedPages, ThatAFileLostMeanwhileAreRefusedByItsName) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "weights.bin";
  constexpr std::uintmax_t bytes = 10 << 20, left = 5 << 20;
  test::write_file(path, "begins");
  std::filesystem::resize_file(path, bytes);
  const auto file = std::make_shared<io::MappedFile>(path);
  std::filesystem::resize_file(path, left);
  if (::madvise(const_cast<std::byte*>(file->data()), left, MADV_POPULATE_READ) != 0)
    GTEST_SKIP() << "this system brings pages in as they are read";
  MappedPages pages;
  pages.add(file, file->data(), left);
  pages.populate();
  pages.add(file, file->data(), bytes);
  EXPECT_THAT([&] { pages.populate(); }, test::Refuses({"weights.bin", "cannot be read"}));
}
#endif

}  // namespace
}  // namespace grist
