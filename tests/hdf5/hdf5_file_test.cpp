// HDF5 files that all ranks write at once.
#include "support/file_limit.hpp"
#include "support/refuses.hpp"
#include "support/shared_folder.hpp"

#include <grist/comm/communicator.hpp>
#include <grist/hdf5/hdf5_file.hpp>

#include <numeric>

namespace {

using namespace grist;
using io::Hdf5File;
using io::Hyperslab;
using test::Refuses;

/// Rank r writes rows r, r + ranks, ... of a matrix whose element (i, j) is i * columns + j.
void write_rows(Hdf5File& file, const std::string& name, Index rows, Index columns, int ranks, int rank) {
  std::vector<Hyperslab> boxes;
  std::vector<float> values;
  for (Index row = rank; row < rows; row += ranks) {
    boxes.push_back({{row, 0}, {1, columns}});
    for (Index column = 0; column < columns; ++column) values.push_back(static_cast<float>(row * columns + column));
  }
  const io::Hdf5Part part{name, boxes, values.data()};
  file.write({&part, 1});
}

std::vector<float> read_all(const Hdf5File& file, const std::string& name) {
  const auto shape = file.tensor(name).shape;
  const Hyperslab all{std::vector<Index>(shape.size(), 0), shape};
  std::vector<float> values(
      static_cast<std::size_t>(std::accumulate(shape.begin(), shape.end(), Index{1}, std::multiplies())));
  file.read(name, {&all, 1}, values.data());
  return values;
}

TEST(Hdf5, RanksWriteTheirRowsTogetherAndSomeHaveNone) {
  const Communicator world(test::world());
  const test::SharedFolder folder;
  const auto path = folder / "rows.h5";
  auto file = Hdf5File::create(path, world.handle());
  file.make_group("/a/b");
  file.make_tensor("/a/b/wide", {DType::f32, {7, 5}});
  file.make_tensor("/a/one", {DType::f32, {1, 3}});
  write_rows(file, "/a/b/wide", 7, 5, world.size(), world.rank());
  write_rows(file, "/a/one", 1, 3, world.size(), world.rank());  // the first rank alone has a row
  file.close();
  world.barrier();
  const auto read = Hdf5File::open(path);
  for (const auto& [name, size] : {std::pair("/a/b/wide", 35), std::pair("/a/one", 3)}) {
    std::vector<float> expected(static_cast<std::size_t>(size));
    std::iota(expected.begin(), expected.end(), 0.0F);
    EXPECT_EQ(read_all(read, name), expected);
  }
  EXPECT_THAT(read.names_in("/a"), testing::ElementsAre("b", "one"));
  EXPECT_TRUE(read.is_group("/a/b"));
  EXPECT_FALSE(read.has("/a/c/d"));
}

TEST(Hdf5, SixteenBitNumbersKeepTheirBits) {
  const Communicator world(test::world());
  const test::SharedFolder folder;
  const auto path = folder / "bits.h5";
  auto file = Hdf5File::create(path, world.handle());
  const std::vector<std::uint16_t> bits{0x0000, 0x8000, 0x3f80, 0x7f80, 0x7fc1, 0x0001, 0xc2f7};
  const Hyperslab all{{0}, {std::ssize(bits)}};
  for (const DType type : {DType::bf16, DType::f16}) {
    file.make_tensor("/" + std::string(name_of(type)), {type, {std::ssize(bits)}});
    const io::Hdf5Part mine{"/" + std::string(name_of(type)), {all}, bits.data()}, none{mine.tensor};
    file.write({world.rank() == 0 ? &mine : &none, 1});
  }
  file.close();
  world.barrier();
  const auto read = Hdf5File::open(path);
  for (const DType type : {DType::bf16, DType::f16}) {
    std::vector<std::uint16_t> back(bits.size());
    EXPECT_EQ(read.tensor("/" + std::string(name_of(type))).type, type);
    read.read("/" + std::string(name_of(type)), {&all, 1}, back.data());
    EXPECT_EQ(back, bits);
  }
}

TEST(Hdf5, AttributesAndTextsOfAnyLengthComeBack) {
  const Communicator world(test::world());
  const test::SharedFolder folder;
  const auto path = folder / "text.h5";
  const std::string text(200000, 'x');
  auto file = Hdf5File::create(path, world.handle(), "romio_no_indep_rw=false;");
  file.make_group("/train");
  file.write_attribute("/train", "step", std::int64_t{-1} << 62);
  file.write_attribute("/train", "rate", 0.1);
  file.write_attribute("/train", "rate", 0.25);
  file.write_text("/train/config", text);
  file.write_text("/train/empty", "");
  file.close();
  world.barrier();
  const auto read = Hdf5File::open(path);
  EXPECT_EQ(read.read_integer("/train", "step"), std::int64_t{-1} << 62);
  EXPECT_EQ(read.read_real("/train", "rate"), 0.25);
  EXPECT_THAT(read.attributes_of("/train"), testing::ElementsAre("rate", "step"));
  EXPECT_TRUE(read.is_real("/train", "rate"));
  EXPECT_EQ(read.read_text("/train/config"), text);
  EXPECT_EQ(read.read_text("/train/empty"), "");
  EXPECT_THAT([&] { (void)read.read_integer("/train", "rate"); }, Refuses({"text.h5", "'/train'", "'rate'"}));
  EXPECT_THAT([&] { (void)read.read_integer("/train", "no"); }, Refuses({"text.h5", "lacks", "'no'"}));
  EXPECT_THAT([&] { (void)read.tensor("/train/config"); }, Refuses({"text.h5", "'/train/config'", "another type"}));
}

TEST(Hdf5, HintsOfAnotherFormAreRefused) {
  if (test::ranks() == 1) return;  // no MPI-IO
  const test::SharedFolder folder;
  EXPECT_THAT([&] { Hdf5File::create(folder / "x.h5", test::world(), "striping"); },
              Refuses<UsageError>({"'striping'", "key=value"}));
}

TEST(Hdf5, WhatIsNoCompleteFileIsRefused) {
  const Communicator world(test::world());
  const test::SharedFolder folder;
  const auto path = folder / "whole.h5";
  auto file = Hdf5File::create(path, world.handle());
  file.make_tensor("/t", {DType::f32, {100, 10}});
  write_rows(file, "/t", 100, 10, world.size(), world.rank());
  file.close();
  world.barrier();
  const std::string bytes = test::contents_of(path);
  const auto mine = folder / ("cut" + std::to_string(world.rank()));
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{5}, std::size_t{100}, bytes.size() / 2, bytes.size() - 1}) {
    test::write_file(mine, bytes.substr(0, size));
    EXPECT_THAT([&] { Hdf5File::open(mine); }, Refuses({"cut", "no complete HDF5 file"})) << size;
  }
  EXPECT_THAT([&] { Hdf5File::open(folder / "nowhere"); }, Refuses({"nowhere", "No such file"}));
  EXPECT_THAT([&] { Hdf5File::open(folder.path()); }, Refuses({"is no file"}));
  EXPECT_THAT([&] { Hdf5File::create(folder / "no/x.h5", world.handle()); }, Refuses({"no/x.h5"}));
}

TEST(Hdf5, AFullDiskIsSaidAndTheProgramGoesOn) {
  const Communicator world(test::world());
  const test::SharedFolder folder;
  auto file = Hdf5File::create(folder / "full.h5", world.handle());
  file.make_tensor("/t", {DType::f32, {1000, 1000}});
  file.flush();
  int failed = 0;
  {
    const test::FileLimit limit(1 << 20);
    const auto attempt = [&](auto&& f) {
      try {
        f();
      } catch (const InputError& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr("full.h5"));
        ++failed;
      }
    };
    attempt([&] { write_rows(file, "/t", 1000, 1000, world.size(), world.rank()); });
    attempt([&] { file.flush(); });
    attempt([&] { file.close(); });
  }
  EXPECT_GT(world.all_reduce(failed), 0);
  auto again = Hdf5File::create(folder / "again.h5", world.handle());
  again.make_tensor("/t", {DType::f32, {2, 2}});
  write_rows(again, "/t", 2, 2, world.size(), world.rank());
  again.close();
  world.barrier();
  EXPECT_EQ(read_all(Hdf5File::open(folder / "again.h5"), "/t"), (std::vector<float>{0, 1, 2, 3}));
}

}  // namespace
