// Rows of every format as numbers: those of their blocks, rounded once.
#include <grist/backends/convert_rows.hpp>
#include <grist/backends/matvec.hpp>

#include <support/compare.hpp>
#include <support/weights.hpp>

namespace {

using namespace grist;
using namespace grist::test;

template <class X>
struct ConvertRows : testing::Test {};
using Storage = testing::Types<float, bf16>;
TYPED_TEST_SUITE(ConvertRows, Storage);

TYPED_TEST(ConvertRows, GivesTheNumbersOfTheBlocks) {
  for (const Format format : every_format) {
    for (const Index blocks : {1, 2, 9}) {
      const Index columns = blocks * std::max<Index>(block_of(format).elements, 32);
      const StoredRows rows(format, 5, columns);
      for (const bool plain : {false, true}) {
        const Buffer<TypeParam> to("to", 5 * columns);
        if (plain)
          convert_rows_plain(Exec(), rows.panel(), 0, to.view(5, columns));
        else
          convert_rows(Exec(), rows.panel(), 0, to.view(5, columns));
        const auto found = on_host(to);
        double worst = 0;
        for (std::size_t i = 0; i < found.size(); ++i) {
          const double expected = rows.numbers[i];
          // Scale times integer, less least: these may round too, by half of a float's last place of the larger one.
          worst = std::max(worst, std::abs(found[i] - expected) - rounding<TypeParam> * std::abs(expected));
        }
        EXPECT_LE(worst, 1e-5) << name_of(format) << ", " << blocks << " blocks" << (plain ? ", plain" : "");
      }
    }
  }
}

TEST(ConvertInterleavedRows, GivesTheNumbersOfRowsApart) {
  if (!reads_interleaved(DType::bf16, Format::q8_0)) GTEST_SKIP() << "this processor multiplies no bytes";
  for (const Format format : every_format) {
    if (block_of(format).elements == 1) continue;
    const Index columns = 9 * block_of(format).elements;
    const StoredRows apart(format, 48, columns);
    const StoredRows rows = apart.interleaved();
    const Buffer<bf16> expected("expected", 48 * columns), found("found", 32 * columns);
    convert_rows(Exec(), apart.panel(), 0, expected.view(48, columns));
    convert_rows(Exec(), rows.panel(), 16, found.view(32, columns));
    const auto numbers = on_host(expected);
    EXPECT_TRUE(std::ranges::equal(on_host(found), std::span(numbers).subspan(16 * columns))) << name_of(format);
    EXPECT_THROW(convert_rows(Exec(), rows.panel(), 0, Buffer<float>("floats", columns).view(1, columns)),
                 InternalError);
  }
}

}  // namespace
