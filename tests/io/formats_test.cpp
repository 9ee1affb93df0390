// Number formats as they are read from files, against the values that gguf-py gets from the same bytes
// (tests/reference/gguf_files.py), and by hand.
#include <grist/core/errors.hpp>
#include <grist/core/staging.hpp>
#include <grist/io/gguf.hpp>
#include <support/files.hpp>
#include <support/refuses.hpp>
#include <support/weights.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <span>

namespace {

using namespace grist;
using io::Slice;
using io::TensorInfo;
using test::bytes_of;
using test::data_file;

struct Golden {
  std::string name;
  std::string type;
  Index rows;
  Index columns;
  std::vector<float> values;
};

std::vector<Golden> golden() {
  const auto folder = data_file("gguf");
  const auto values = test::floats_of(folder / "types.f32");
  std::vector<Golden> tensors;
  const auto list = nlohmann::json::parse(test::contents_of(folder / "types.json"));
  for (const auto& tensor : list["tensors"]) {
    Golden one{tensor["name"], tensor["type"], tensor["shape"][0], tensor["shape"][1], {}};
    const auto first = values.begin() + tensor["offset"].get<std::ptrdiff_t>();
    one.values.assign(first, first + one.rows * one.columns);
    tensors.push_back(one);
  }
  return tensors;
}

template <class T>
std::vector<T> read(const io::Weights& weights, const TensorInfo& tensor, const Slice& slice) {
  std::vector<T> out(static_cast<std::size_t>(slice.rows * slice.columns));
  weights.read(tensor, slice, out.data());
  return out;
}

/// How far a value may be from gguf-py's. A compiler may fuse d q + m to one rounding where numpy has two, of |d q| at
/// most |x| + |m|, each of which a block's values reach within a factor of 63 at most (Q5_K: q up to 31, m up to 63 of
/// dmin). The largest value of the row bounds both. All else is exact.
float allowed(const std::string& type, float largest) {
  for (const char* const with_least : {"Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K"})
    if (type == with_least) return largest * 0x1p-21F;
  return 0.0F;
}

TEST(Formats, GivesTheValuesOfGgufPyForEveryType) {
  const io::Gguf gguf = io::open_gguf(data_file("gguf/types.gguf"));
  const auto expected = golden();
  ASSERT_EQ(expected.size(), 15U);
  EXPECT_EQ(gguf.weights.tensors().size(), expected.size());
  for (const Golden& tensor : expected) {
    const TensorInfo* info = gguf.weights.find(tensor.name);
    ASSERT_NE(info, nullptr) << tensor.name;
    EXPECT_EQ(info->shape, (std::vector<Index>{tensor.rows, tensor.columns})) << tensor.name;
    for (Index row = 0; row < tensor.rows; ++row) {
      const auto values = read<float>(gguf.weights, *info, {row, 1, 0, tensor.columns});
      const std::span<const float> same(tensor.values.data() + row * tensor.columns, values.size());
      float largest = 0;
      for (const float value : same) largest = std::max(largest, std::abs(value));
      ASSERT_GT(largest, 0.0F);
      for (std::size_t i = 0; i < values.size(); ++i) {
        const float difference = std::abs(values[i] - same[i]);
        if (!(difference <= allowed(tensor.type, largest))) {
          ADD_FAILURE() << tensor.name << " [" << row << ", " << i << "]: " << values[i] << " against " << same[i];
        }
      }
    }
  }
}

TEST(Formats, GivesTheSameBitsForASliceThatBeginsInsideABlock) {
  const io::Gguf gguf = io::open_gguf(data_file("gguf/types.gguf"));
  for (const auto& [name, tensor] : gguf.weights.tensors()) {
    const auto whole = read<float>(gguf.weights, tensor, {0, 3, 0, 256});
    for (Index column = 0; column < 256; column += 5) {
      for (const Index columns : {Index{1}, Index{31}, Index{32}, Index{100}, 256 - column}) {
        if (column + columns > 256) continue;
        const auto slice = read<float>(gguf.weights, tensor, {1, 2, column, columns});
        for (Index row = 0; row < 2; ++row) {
          const auto* part = whole.data() + (row + 1) * 256 + column;
          EXPECT_EQ(std::memcmp(slice.data() + row * columns, part, static_cast<std::size_t>(columns) * sizeof(float)),
                    0)
              << name << " row " << row + 1 << " columns [" << column << ", +" << columns << ")";
        }
      }
    }
  }
}

TEST(Formats, RoundsOnceToTheTypeThatIsAskedFor) {
  const io::Gguf gguf = io::open_gguf(data_file("gguf/types.gguf"));
  for (const auto& [name, tensor] : gguf.weights.tensors()) {
    const auto floats = read<float>(gguf.weights, tensor, {0, 3, 0, 256});
    const auto bf16s = read<bf16>(gguf.weights, tensor, {0, 3, 0, 256});
    const auto f16s = read<f16>(gguf.weights, tensor, {0, 3, 0, 256});
    for (std::size_t i = 0; i < floats.size(); ++i) {
      EXPECT_EQ(bf16s[i].bits, bf16(floats[i]).bits) << name << " " << i;
      EXPECT_EQ(f16s[i].bits, f16(floats[i]).bits) << name << " " << i;
    }
  }
}

// A kernel takes numbers one at a time or a block at once.
TEST(Formats, AValueIsTheOneOfItsDecodedBlock) {
  for (const Format format : test::every_format) {
    const test::StoredRows rows(format, 3, 256);
    with_format(format, [&]<class Block>(Block) {
      const auto* const blocks = reinterpret_cast<const Block*>(rows.memory.data());
      if (!host_reaches_memory) return;  // tests of kernels see it there
      for (std::size_t i = 0; i < rows.numbers.size(); ++i) {
        const float value = blocks[i / Block::elements].value(static_cast<int>(i % Block::elements));
        EXPECT_NEAR(value, rows.numbers[i], 1e-6F * (1 + std::abs(value))) << name_of(format) << ' ' << i;
      }
    });
  }
}

TEST(Formats, ARowIsDecodedFromAndToAnyColumn) {
  const io::Gguf gguf = io::open_gguf(data_file("gguf/types.gguf"));
  for (const auto& [name, tensor] : gguf.weights.tensors()) {
    std::vector<float> whole(256), part(256);
    const std::byte* const row = gguf.weights.data(tensor) + row_bytes(tensor.format, 256);  // the second
    io::decode_row(tensor.format, row, 0, 256, whole.data());
    for (const auto& [column, columns] : {std::pair<Index, Index>{0, 1}, {31, 2}, {64, 128}, {129, 127}, {255, 1}}) {
      std::ranges::fill(part, -7.0F);
      io::decode_row(tensor.format, row, column, columns, part.data());
      EXPECT_TRUE(std::equal(part.begin(), part.begin() + columns, whole.begin() + column)) << name << ' ' << column;
      EXPECT_TRUE(std::all_of(part.begin() + columns, part.end(), [](float x) { return x == -7.0F; })) << name;
    }
  }
}

/// Blocks written by hand, with the values that the format's definition gives them.
TEST(Formats, FollowsTheDefinitionOfSmallBlocks) {
  const auto decode = [](Format format, const std::string& bytes) {
    EXPECT_EQ(static_cast<Index>(bytes.size()), block_of(format).bytes);
    std::vector<float> out(static_cast<std::size_t>(block_of(format).elements));
    with_format(format, [&]<class Block>(Block block) {
      std::memcpy(&block, bytes.data(), sizeof(block));
      block.decode(out.data());
    });
    return out;
  };
  const std::string two = bytes_of(f16(2.0F).bits);
  const std::string ten = bytes_of(f16(10.0F).bits);
  std::string nibbles;  // byte i: i in the low half, 15 - i in the high half
  std::string signed_bytes;
  for (int i = 0; i < 16; ++i) nibbles += static_cast<char>(i | (15 - i) << 4);
  for (int i = 0; i < 32; ++i) signed_bytes += static_cast<char>(i * 8 - 128);
  const auto q4_0 = decode(Format::q4_0, two + nibbles);
  const auto q4_1 = decode(Format::q4_1, two + ten + nibbles);
  const auto q8_0 = decode(Format::q8_0, two + signed_bytes);
  for (int i = 0; i < 32; ++i) {
    const int q = i < 16 ? i : 31 - i;
    const auto place = static_cast<std::size_t>(i);
    EXPECT_EQ(q4_0[place], 2.0F * static_cast<float>(q - 8)) << i;
    EXPECT_EQ(q4_1[place], 2.0F * static_cast<float>(q) + 10.0F) << i;
    EXPECT_EQ(q8_0[place], 2.0F * static_cast<float>(i * 8 - 128)) << i;
  }
}

}  // namespace
