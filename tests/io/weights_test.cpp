// Weights: slices equal the same part of the whole, in every type; tensors that cannot be are refused.
#include <grist/core/errors.hpp>
#include <grist/io/mapped_file.hpp>
#include <grist/io/safetensors.hpp>
#include <grist/io/weights.hpp>
#include <support/files.hpp>
#include <support/refuses.hpp>

#include <algorithm>
#include <bit>
#include <fstream>
#include <limits>

namespace {

using namespace grist;
using io::Slice;
using io::TensorInfo;
using io::Weights;
using test::Refuses;
using test::TemporaryFolder;
using test::write_file;

/// Every bit pattern is met, infinities and NaN included.
template <class T>
T number(Index i) {
  const auto bits = static_cast<std::uint32_t>(i) * 2654435761U;
  if constexpr (sizeof(T) == 4) {
    return std::bit_cast<T>(bits);
  } else {
    return std::bit_cast<T>(static_cast<std::uint16_t>(bits >> 16));
  }
}

template <class T>
std::vector<T> numbers(Index count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (Index i = 0; i < count; ++i) values[static_cast<std::size_t>(i)] = number<T>(i);
  return values;
}

template <class T>
void write_matrix(const TemporaryFolder& folder, Index rows, Index columns) {
  const auto values = numbers<T>(rows * columns);
  io::SafetensorsWriter writer(folder / "model.safetensors", {{"matrix", dtype_of<T>, {rows, columns}}});
  writer.write(values.data(), values.size() * sizeof(T));
  writer.close();
}

template <class T>
std::vector<T> read(const Weights& weights, const Slice& slice) {
  std::vector<T> out(static_cast<std::size_t>(slice.rows * slice.columns));
  weights.read(*weights.find("matrix"), slice, out.data());
  return out;
}

/// Equal bits: NaN equals itself, 0 does not equal -0.
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  const auto equal = [](T x, T y) { return std::memcmp(&x, &y, sizeof(T)) == 0; };
  return std::ranges::equal(a, b, equal);
}

template <class Stored, class Read>
void expect_slices(Index rows, Index columns, const std::vector<Slice>& slices) {
  const TemporaryFolder folder;
  write_matrix<Stored>(folder, rows, columns);
  const Weights weights = io::open_safetensors(folder.path());
  for (const Slice& slice : slices) {
    std::vector<Read> expected;
    for (Index row = slice.row; row < slice.row + slice.rows; ++row) {
      for (Index column = slice.column; column < slice.column + slice.columns; ++column) {
        const auto stored = number<Stored>(row * columns + column);
        if constexpr (std::is_same_v<Stored, Read>) {
          expected.push_back(stored);
        } else {
          expected.push_back(Read(static_cast<float>(stored)));
        }
      }
    }
    EXPECT_TRUE(same_bits(read<Read>(weights, slice), expected))
        << "rows [" << slice.row << ", +" << slice.rows << ") columns [" << slice.column << ", +" << slice.columns
        << ")";
  }
}

template <class Types>
class Slices : public testing::Test {};
using AllPairs = testing::Types<std::pair<float, float>, std::pair<float, bf16>, std::pair<float, f16>,
                                std::pair<bf16, float>, std::pair<bf16, bf16>, std::pair<bf16, f16>,
                                std::pair<f16, float>, std::pair<f16, bf16>, std::pair<f16, f16>>;
TYPED_TEST_SUITE(Slices, AllPairs);

TYPED_TEST(Slices, EqualTheSamePartOfTheWhole) {
  expect_slices<typename TypeParam::first_type, typename TypeParam::second_type>(7, 11,
                                                                                 {{0, 7, 0, 11},
                                                                                  {0, 1, 0, 1},
                                                                                  {6, 1, 10, 1},
                                                                                  {2, 3, 4, 5},
                                                                                  {0, 7, 3, 1},
                                                                                  {3, 1, 0, 11},
                                                                                  {7, 0, 0, 11},
                                                                                  {0, 7, 11, 0}});
}

TYPED_TEST(Slices, EqualThePartWhenReadByAllThreads) {
  expect_slices<typename TypeParam::first_type, typename TypeParam::second_type>(
      91, 2500, {{0, 91, 0, 2500}, {1, 90, 7, 2401}, {3, 70, 1000, 1025}});
}

TEST(WeightsRead, RefusesWhatIsOutsideTheShape) {
  const TemporaryFolder folder;
  write_matrix<float>(folder, 3, 5);
  const Weights weights = io::open_safetensors(folder.path());
  constexpr Index most = std::numeric_limits<Index>::max();
  std::vector<float> out(15);
  for (const Slice& slice : {Slice{0, 4, 0, 5}, Slice{0, 3, 0, 6}, Slice{3, 1, 0, 1}, Slice{-1, 1, 0, 1},
                             Slice{0, -1, 0, 1}, Slice{0, 1, -1, 1}, Slice{0, 1, 0, -1}, Slice{1, most, 0, 1},
                             Slice{0, 1, 1, most}, Slice{most, most, most, most}}) {
    EXPECT_THAT(
        [&] { weights.read(*weights.find("matrix"), slice, out.data()); },
        Refuses({"model.safetensors", "tensor 'matrix' of shape [3, 5] has no rows [" + std::to_string(slice.row)}));
  }
}

/// Resident bytes of this process' mapping of a file.
std::size_t resident(const std::filesystem::path& file) {
  std::ifstream maps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.find('-') < line.find(' ')) inside = line.ends_with(file.string());
    if (inside && line.starts_with("Rss:")) return std::stoul(line.substr(4)) * 1024;
  }
  return 0;
}

TEST(WeightsRelease, GivesBackThePagesOfATensorThatWasRead) {
  const TemporaryFolder folder;
  write_matrix<float>(folder, 1024, 512);
  const auto file = folder / "model.safetensors";
  const Weights weights = io::open_safetensors(folder.path());
  const auto before = read<float>(weights, {0, 1024, 0, 512});
  ASSERT_GE(resident(file), std::size_t{2} << 20);
  weights.release(*weights.find("matrix"), 0, 1024);
  EXPECT_LE(resident(file), std::size_t{1} << 16);
  EXPECT_TRUE(same_bits(read<float>(weights, {0, 1024, 0, 512}), before));
}

TEST(WeightsRead, RefusesATypeThatNoWeightHas) {
  const TemporaryFolder folder;
  const std::string header = R"({"ids":{"dtype":"I64","shape":[3],"data_offsets":[0,24]}})";
  folder.write("model.safetensors", test::bytes_of(std::uint64_t{header.size()}) + header + std::string(24, '\1'));
  const Weights weights = io::open_safetensors(folder.path());
  ASSERT_NE(weights.find("ids"), nullptr);
  EXPECT_EQ(type_name_of(*weights.find("ids")), "I64");
  EXPECT_EQ(weights.find("ids")->bytes(), 24U);
  float out[3];
  EXPECT_THAT([&] { weights.read(*weights.find("ids"), {0, 1, 0, 3}, out); },
              Refuses({"model.safetensors", "tensor 'ids' is of the type I64, which is no weight's"}));
}

TEST(WeightsFind, IsNullForAnUnknownName) { EXPECT_EQ(Weights().find("nobody"), nullptr); }

TEST(TensorInfo, CountsRowsColumnsAndBytes) {
  const auto bytes = [](Format type, std::vector<Index> shape) {
    return TensorInfo{"t", type, std::move(shape)}.bytes();
  };
  EXPECT_EQ(bytes(Format::f32, {}), 4U);
  EXPECT_EQ(bytes(Format::bf16, {3}), 6U);
  EXPECT_EQ(bytes(Format::f16, {2, 3, 4}), 48U);
  EXPECT_EQ(bytes(Format::q8_0, {2, 64}), 2U * 2 * 34);
  EXPECT_EQ(bytes(Format::q6_k, {256}), 210U);
  EXPECT_EQ(bytes(Format::f32, {0, 3}), 0U);
  constexpr std::uint64_t more_than_any_file = std::numeric_limits<Index>::max();
  EXPECT_EQ(bytes(Format::f32, {Index{1} << 62, 4}), more_than_any_file);
  EXPECT_EQ(bytes(Format::f32, {Index{1} << 32, Index{1} << 32, 1}), more_than_any_file);
  EXPECT_EQ((TensorInfo{"t", Format::f32, {2, 3, 4}}.rows()), 6);
  EXPECT_EQ((TensorInfo{"t", Format::f32, {2, 3, 4}}.columns()), 4);
  EXPECT_EQ((TensorInfo{"t", Format::f32, {5}}.rows()), 1);
}

TEST(WeightsAdd, RefusesTensorsThatCannotBe) {
  const TemporaryFolder folder;
  write_file(folder / "file", std::string(100, '\0'));
  Weights weights;
  const std::size_t file = weights.add_file(std::make_shared<const io::MappedFile>(folder / "file"));
  const auto add = [&](std::string name, Format type, std::vector<Index> shape, std::uint64_t offset) {
    return [=, &weights] { weights.add({name, type, shape, file, offset}); };
  };
  EXPECT_NO_THROW(add("middle", Format::f32, {5}, 40)());
  EXPECT_NO_THROW(add("before", Format::f32, {10}, 0)());
  EXPECT_NO_THROW(add("after", Format::f32, {10}, 60)());
  EXPECT_NO_THROW(add("none", Format::f32, {0}, 50)());
  EXPECT_EQ(weights.tensors().size(), 4U);

  EXPECT_THAT(add("long", Format::f32, {26}, 0), Refuses({"file", "'long'", "104 bytes from byte 0", "has 100"}));
  EXPECT_THAT(add("late", Format::f32, {1}, 97), Refuses({"'late'", "4 bytes from byte 97"}));
  EXPECT_THAT(add("far", Format::f32, {1}, ~std::uint64_t{0}), Refuses({"'far'"}));
  EXPECT_THAT(add("vast", Format::f32, {Index{1} << 62, Index{1} << 62}, 0), Refuses({"'vast'"}));
  EXPECT_THAT(add("same", Format::f32, {5}, 40), Refuses({"'middle' and 'same' overlap"}));
  EXPECT_THAT(add("inside", Format::f32, {1}, 44), Refuses({"'middle' and 'inside' overlap"}));
  EXPECT_THAT(add("first byte", Format::f32, {1}, 37), Refuses({"and 'first byte' overlap"}));
  EXPECT_THAT(add("around", Format::f32, {25}, 0), Refuses({"and 'around' overlap"}));
  EXPECT_THAT(add("none", Format::f32, {0}, 0), Refuses({"'none' is already in"}));
  EXPECT_THAT(add("ragged", Format::q8_0, {33}, 0), Refuses({"'ragged' of shape [33] is q8_0", "multiple of 32"}));
  EXPECT_EQ(weights.tensors().size(), 4U) << "what was refused was not added";
}

TEST(MappedFile, SaysWhyAFileCannotBeRead) {
  const TemporaryFolder folder;
  EXPECT_THAT([&] { io::MappedFile(folder / "absent"); },
              Refuses({"absent: cannot be opened: No such file or directory"}));
  EXPECT_THAT([&] { io::MappedFile(folder.path()); }, Refuses({folder.path().string() + ": is not a regular file"}));
}

TEST(MappedFile, MayBeEmpty) {
  const TemporaryFolder folder;
  write_file(folder / "empty", "");
  const io::MappedFile file(folder / "empty");
  EXPECT_EQ(file.size(), 0U);
  EXPECT_EQ(file.data(), nullptr);
}

}  // namespace
