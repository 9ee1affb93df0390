// safetensors: what transformers wrote is read, what is wrong is refused by name, what grist writes is whole or absent.
#include <grist/core/errors.hpp>
#include <grist/io/safetensors.hpp>
#include <support/files.hpp>
#include <support/refuses.hpp>

#include <nlohmann/json.hpp>

#include <format>

namespace {

using namespace grist;
using io::open_safetensors;
using io::SafetensorsWriter;
using io::TensorHeader;
using io::TensorInfo;
using io::Weights;
using test::bytes_of;
using test::contents_of;
using test::data_file;
using test::Refuses;
using test::TemporaryFolder;
using test::write_file;
using testing::IsEmpty;

std::string safetensors(std::string_view header, std::size_t data_bytes) {
  return bytes_of(std::uint64_t{header.size()}) + std::string(header) + std::string(data_bytes, '\1');
}

/// One entry of a header.
std::string entry(std::string_view name, std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return std::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":{}}})", name, dtype, shape, offsets);
}

template <class T>
std::vector<T> whole(const Weights& weights, const TensorInfo& tensor) {
  std::vector<T> values(static_cast<std::size_t>(tensor.rows() * tensor.columns()));
  weights.read(tensor, {0, tensor.rows(), 0, tensor.columns()}, values.data());
  return values;
}

/// The bytes of every tensor as the header's offsets say, found by a reader that trusts the file.
std::map<std::string, std::string> raw_tensors(const std::filesystem::path& file) {
  const std::string bytes = contents_of(file);
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  std::map<std::string, std::string> raw;
  const auto header = nlohmann::json::parse(bytes.substr(8, length));
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") continue;
    const auto begin = value["data_offsets"][0].get<std::size_t>();
    raw[name] = bytes.substr(8 + length + begin, value["data_offsets"][1].get<std::size_t>() - begin);
  }
  return raw;
}

template <class T>
std::string read_bytes(const Weights& weights, const TensorInfo& tensor) {
  const std::vector<T> values = whole<T>(weights, tensor);
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

template <class T>
void expect_bit_for_bit(const std::filesystem::path& folder) {
  const Weights weights = open_safetensors(folder);
  const auto raw = raw_tensors(folder / "model.safetensors");
  ASSERT_FALSE(raw.empty());
  EXPECT_EQ(weights.tensors().size(), raw.size());
  for (const auto& [name, bytes] : raw) {
    const TensorInfo* tensor = weights.find(name);
    ASSERT_NE(tensor, nullptr) << name;
    EXPECT_EQ(read_bytes<T>(weights, *tensor), bytes) << name;
  }
}

TEST(OpenSafetensors, ReadsEveryTensorOfAModelBitForBit) {
  expect_bit_for_bit<float>(data_file("tiny/llama_bias"));
  expect_bit_for_bit<f16>(data_file("tiny/llama2"));
  expect_bit_for_bit<bf16>(data_file("tiny/mistral"));
}

TEST(OpenSafetensors, FindsEveryTensorInTheShardThatTheIndexNames) {
  const auto folder = data_file("tiny/llama_bias_sharded");
  const Weights weights = open_safetensors(folder);
  const auto index = nlohmann::json::parse(contents_of(folder / "model.safetensors.index.json"));
  EXPECT_EQ(weights.tensors().size(), index["weight_map"].size());
  Index parameters = 0;
  for (const auto& [name, file] : index["weight_map"].items()) {
    const TensorInfo* tensor = weights.find(name);
    ASSERT_NE(tensor, nullptr) << name;
    EXPECT_EQ(weights.file_of(*tensor), folder / file.get<std::string>());
    EXPECT_EQ(read_bytes<bf16>(weights, *tensor), raw_tensors(folder / file.get<std::string>()).at(name)) << name;
    parameters += tensor->rows() * tensor->columns();
  }
  EXPECT_EQ(parameters, index["metadata"]["total_parameters"].get<Index>());
}

TEST(OpenSafetensors, AcceptsWhatTheFormatAllows) {
  const TemporaryFolder folder;
  const auto open = [&](std::string_view header, std::size_t data_bytes) {
    write_file(folder / "model.safetensors", safetensors(header, data_bytes));
    return open_safetensors(folder.path()).tensors();
  };
  EXPECT_THAT(open("{}", 0), IsEmpty());
  EXPECT_THAT(open(R"({"__metadata__":{"format":"pt"}}       )", 0), IsEmpty());
  const auto tensors =
      open("{" + entry("second", "F32", "[]", "[8,12]") + "," + entry("none", "F16", "[0,7]", "[8,8]") + "," +
               entry("first", "BF16", "[2,1,2]", "[0,8]") + "}",
           12);
  EXPECT_EQ(tensors.size(), 3U);
  EXPECT_EQ(tensors.at("first").rows(), 2);
  EXPECT_EQ(tensors.at("first").columns(), 2);
  EXPECT_EQ(tensors.at("none").bytes(), 0U);
  EXPECT_EQ(tensors.at("second").bytes(), 4U);
}

// Buffers that old checkpoints carry: whether they matter is for who asks for them.
TEST(OpenSafetensors, ListsTensorsWhoseTypeNoWeightHas) {
  const TemporaryFolder folder;
  write_file(folder / "model.safetensors",
             safetensors("{" + entry("ids", "I64", "[3]", "[0,24]") + "," + entry("mask", "BOOL", "[2,2]", "[24,28]") +
                             "," + entry("w", "F32", "[2]", "[28,36]") + "}",
                         36));
  const Weights weights = open_safetensors(folder.path());
  EXPECT_EQ(weights.tensors().size(), 3U);
  EXPECT_EQ(type_name_of(*weights.find("ids")), "I64");
  EXPECT_EQ(type_name_of(*weights.find("mask")), "BOOL");
  EXPECT_EQ(weights.find("mask")->bytes(), 4U);
  EXPECT_EQ(type_name_of(*weights.find("w")), "f32");
}

TEST(OpenSafetensors, NamesAGitLfsPointer) {
  const TemporaryFolder folder;
  write_file(folder / "model.safetensors",
             "version https://git-lfs.github.com/spec/v1\noid "
             "sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
             "size 12345\n");
  EXPECT_THAT([&] { open_safetensors(folder.path()); },
              Refuses({"model.safetensors: is a Git LFS pointer, not the file itself", "git lfs pull"}));
}

TEST(OpenSafetensors, RefusesABadFileAndNamesFileTensorExpectedAndFound) {
  struct Bad {
    std::string bytes;
    std::vector<std::string> words;
  };
  const std::string good = entry("a", "F32", "[2]", "[0,8]");
  const std::string deep(100000, '[');
  const std::vector<Bad> bad = {
      {"", {"truncated", "8 bytes", "has 0"}},
      {"1234567", {"truncated", "has 7"}},
      {bytes_of(~std::uint64_t{0}) + "{}", {"a header of 18446744073709551615 bytes", "file of 10"}},
      {bytes_of(std::uint64_t{3}) + "{}", {"a header of 3 bytes", "file of 10"}},
      {safetensors("", 0), {"the header is malformed"}},
      {safetensors("{\"a\":", 0), {"the header is malformed"}},
      {safetensors("{} x", 0), {"the header is malformed"}},
      {safetensors("{\"\xff\":1}", 0), {"the header is malformed"}},
      {safetensors("[1]", 0), {"the header is not a JSON object"}},
      {safetensors("{\"a\":" + deep, 0), {"nested deeper"}},
      {safetensors("{" + good + "," + good + "}", 8), {"the header has the key 'a' twice"}},
      {safetensors(R"({"a":{"dtype":"F32","dtype":"F16"}})", 8), {"the header has the key 'dtype' twice"}},
      {safetensors(R"({"a":7})", 0), {"tensor 'a'", "number", "expected an object"}},
      {safetensors(R"({"a":{"shape":[2],"data_offsets":[0,8]}})", 8), {"tensor 'a'", "has no 'dtype'"}},
      {safetensors(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", 8), {"tensor 'a'", "has no 'shape'"}},
      {safetensors(R"({"a":{"dtype":"F32","shape":[2]}})", 8), {"tensor 'a'", "has no 'data_offsets'"}},
      {safetensors(R"({"a":{"dtype":1,"shape":[2],"data_offsets":[0,8]}})", 8),
       {"tensor 'a'", "a dtype of JSON number"}},
      {safetensors("{" + entry("a", "", "[2]", "[0,8]") + "}", 8),
       {"tensor 'a'", "a dtype of JSON string", "F32 or BF16"}},
      {safetensors("{" + entry("a", "I64", "[1]", "[8,0]") + "}", 8), {"tensor 'a'", "[8, 0]"}},
      {safetensors("{" + entry("a", "I64", "[1]", "[0,16]") + "}", 8), {"truncated", "tensor 'a'"}},
      {safetensors("{" + entry("a", "F32", "2", "[0,8]") + "}", 8), {"tensor 'a'", "shape is not an array"}},
      {safetensors("{" + entry("a", "F32", "[-2]", "[0,8]") + "}", 8), {"tensor 'a'", "shape is not an array"}},
      {safetensors("{" + entry("a", "F32", "[2.0]", "[0,8]") + "}", 8), {"tensor 'a'", "shape is not an array"}},
      {safetensors("{" + entry("a", "F32", "[9223372036854775808]", "[0,8]") + "}", 8), {"tensor 'a'", "shape"}},
      {safetensors("{" + entry("a", "F32", "[99999999999999999999]", "[0,8]") + "}", 8), {"tensor 'a'", "shape"}},
      {safetensors("{" + entry("a", "F32", "[2]", "8") + "}", 8), {"tensor 'a'", "data_offsets is not an array"}},
      {safetensors("{" + entry("a", "F32", "[2]", "[8]") + "}", 8), {"tensor 'a'", "1 data_offsets, expected 2"}},
      {safetensors("{" + entry("a", "F32", "[2]", "[0,4,8]") + "}", 8), {"tensor 'a'", "3 data_offsets, expected 2"}},
      {safetensors("{" + entry("a", "F32", "[2]", "[8,0]") + "}", 8), {"tensor 'a'", "[8, 0]", "expected 8 bytes"}},
      {safetensors("{" + entry("a", "F32", "[3]", "[0,8]") + "}", 8), {"tensor 'a' (F32 [3])", "expected 12 bytes"}},
      {safetensors("{" + entry("a", "F32", "[4294967296,4294967296]", "[0,0]") + "}", 0), {"tensor 'a'", "[0, 0]"}},
      {safetensors("{" + entry("a", "F32", "[4]", "[0,16]") + "}", 8), {"truncated", "tensor 'a'", "16", "has 8"}},
      {safetensors("{" + good + "," + entry("b", "F32", "[1]", "[4,8]") + "}", 8), {"tensor 'b'", "overlap"}},
      {safetensors("{" + good + "," + entry("b", "F32", "[1]", "[12,16]") + "}", 16),
       {"tensor 'b'", "12", "8", "hole"}},
      {safetensors("{" + entry("a", "F32", "[1]", "[4,8]") + "}", 8), {"tensor 'a'", "hole"}},
      {safetensors("{" + good + "}", 11), {"3 bytes follow the last tensor"}},
  };
  const TemporaryFolder folder;
  const auto file = folder / "model.safetensors";
  for (Bad one : bad) {
    SCOPED_TRACE(one.bytes.substr(0, 200));
    write_file(file, one.bytes);
    one.words.push_back(file.string());
    EXPECT_THAT([&] { open_safetensors(folder.path()); }, Refuses(one.words));
  }
}

TEST(OpenSafetensors, RefusesAHeaderBeyondTheLimitOfTheFormat) {
  const TemporaryFolder folder;
  write_file(folder / "model.safetensors", bytes_of(std::uint64_t{100'000'001}));
  std::filesystem::resize_file(folder / "model.safetensors", 200'000'000);  // sparse
  EXPECT_THAT([&] { open_safetensors(folder.path()); }, Refuses({"100000001 bytes", "at most 100000000"}));
}

TEST(OpenSafetensors, RefusesAFileCutAnywhere) {
  const TemporaryFolder folder;
  const std::string good = contents_of(data_file("tiny/llama_bias_sharded/model-00005-of-00005.safetensors"));
  write_file(folder / "model.safetensors", good);
  EXPECT_NO_THROW(open_safetensors(folder.path()));
  for (std::size_t size = 0; size < good.size(); size += 13) {
    write_file(folder / "model.safetensors", good.substr(0, size));
    EXPECT_THAT([&] { open_safetensors(folder.path()); }, Refuses({"model.safetensors"})) << size;
  }
}

TEST(OpenSafetensors, NamesWhatIsMissing) {
  const TemporaryFolder folder;
  EXPECT_THAT([&] { open_safetensors(folder.path()); },
              Refuses({folder.path().string(), "neither model.safetensors nor model.safetensors.index.json"}));
  EXPECT_THAT([&] { open_safetensors(folder / "absent"); }, Refuses({"absent", "neither"}));
  std::filesystem::create_symlink("gone", folder / "model.safetensors");
  EXPECT_THAT([&] { open_safetensors(folder.path()); }, Refuses({"model.safetensors: cannot be opened: No such file"}));
  std::filesystem::remove(folder / "model.safetensors");
  std::filesystem::create_directory(folder / "model.safetensors");
  EXPECT_THAT([&] { open_safetensors(folder.path()); }, Refuses({"model.safetensors: is not a regular file"}));
}

/// Two shards, `a` in the first and `b` in the second, and an index.
class Sharded : public testing::Test {
protected:
  Sharded() {
    write_file(folder / "1.safetensors", safetensors("{" + entry("a", "F32", "[2]", "[0,8]") + "}", 8));
    write_file(folder / "2.safetensors", safetensors("{" + entry("b", "F32", "[2]", "[0,8]") + "}", 8));
  }
  Weights open(std::string_view index) {
    write_file(folder / "model.safetensors.index.json", index);
    return open_safetensors(folder.path());
  }
  TemporaryFolder folder;
};

TEST_F(Sharded, AreReadTogether) {
  EXPECT_EQ(open(R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})").tensors().size(), 2U);
}

TEST_F(Sharded, MustAgreeWithTheIndex) {
  const auto refused = [&](std::string_view weight_map, std::vector<std::string> words) {
    SCOPED_TRACE(weight_map);
    words.emplace_back("model.safetensors.index.json");
    EXPECT_THAT([&] { open(std::format(R"({{"weight_map":{}}})", weight_map)); }, Refuses(words));
  };
  refused(R"({"b":"2.safetensors","a":"2.safetensors"})", {"'a'", "should lie in 2.safetensors", "does not hold it"});
  refused(R"({"a":"2.safetensors","b":"1.safetensors"})", {"'b'", "should lie in 1.safetensors", "2.safetensors"});
  refused(R"({"a":"1.safetensors","b":"2.safetensors","c":"2.safetensors"})", {"'c'", "does not hold it"});
  refused(R"({"b":"2.safetensors","c":"1.safetensors"})", {"'a'", "1.safetensors", "not in the weight_map"});
  write_file(folder / "2.safetensors",
             safetensors("{" + entry("b", "F32", "[2]", "[0,8]") + "," + entry("c", "F32", "[1]", "[8,12]") + "}", 12));
  refused(R"({"a":"1.safetensors","b":"2.safetensors"})", {"'c'", "2.safetensors", "not in the weight_map"});
}

// A shard that replaces tensors of others lies behind them by name: transformers takes what it reads last.
TEST_F(Sharded, MayOverlayATensorOfAnEarlierShard) {
  write_file(folder / "1.safetensors",
             safetensors("{" + entry("a", "F32", "[2]", "[0,8]") + "," + entry("x", "F32", "[2]", "[8,16]") + "}", 16));
  write_file(folder / "overlay.safetensors", safetensors("{" + entry("a", "F32", "[2]", "[0,8]") + "}", 8));
  const Weights weights = open(R"({"weight_map":{"a":"overlay.safetensors","b":"2.safetensors","x":"1.safetensors"}})");
  EXPECT_EQ(weights.file_of(*weights.find("a")), (folder / "overlay.safetensors").string());
}

TEST_F(Sharded, MayNotHoldATensorTwiceAgainstTheIndex) {
  write_file(folder / "3.safetensors",
             safetensors("{" + entry("a", "F32", "[2]", "[0,8]") + "," + entry("c", "F32", "[2]", "[8,16]") + "}", 16));
  EXPECT_THAT([&] { open(R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"3.safetensors"}})"); },
              Refuses({"tensor 'a' should lie in 1.safetensors", "3.safetensors holds it and would take precedence"}));
}

TEST_F(Sharded, WithoutAnIndexAreRefusedByName) {
  EXPECT_THAT([&] { open_safetensors(folder.path()); },
              Refuses({"neither model.safetensors nor model.safetensors.index.json",
                       "1.safetensors lies there, and no index"}));
}

TEST_F(Sharded, MustAllBeThere) {
  EXPECT_THAT([&] { open(R"({"weight_map":{"a":"1.safetensors","b":"9.safetensors"}})"); },
              Refuses({"9.safetensors", "No such file"}));
}

TEST_F(Sharded, MayNotLieOutsideTheFolder) {
  for (const std::string name : {"../x", "/etc/passwd", "..", ".", "", "sub/1.safetensors"}) {
    EXPECT_THAT([&] { open(R"({"weight_map":{"a":")" + name + R"("}})"); },
                Refuses({"model.safetensors.index.json", "tensor 'a'", "'" + name + "'", "in this folder"}))
        << name;
  }
}

TEST_F(Sharded, RefuseAMalformedIndex) {
  EXPECT_THAT([&] { open(""); }, Refuses({"the index is malformed"}));
  EXPECT_THAT([&] { open(R"({"weight_map":)"); }, Refuses({"the index is malformed"}));
  EXPECT_THAT([&] { open("[]"); }, Refuses({"the index is not a JSON object"}));
  EXPECT_THAT([&] { open("{}"); }, Refuses({"the index has no 'weight_map'"}));
  EXPECT_THAT([&] { open(R"({"weight_map":[1]})"); }, Refuses({"weight_map is a JSON array, expected an object"}));
  EXPECT_THAT([&] { open(R"({"weight_map":{"a":1}})"); }, Refuses({"tensor 'a' lies in 'number'"}));
  EXPECT_THAT([&] { open(R"({"weight_map":{"a":"1.safetensors","a":"2.safetensors"}})"); },
              Refuses({"the key 'a' twice"}));
}

/// Numbers of which each is different, exact in every type.
template <class T>
std::vector<T> counted(std::size_t count, float first) {
  std::vector<T> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<T>(first + static_cast<float>(i));
  return values;
}

template <class T>
void put(SafetensorsWriter& writer, const std::vector<T>& values) {
  writer.write(values.data(), values.size() * sizeof(T));
}

TEST(SafetensorsWriter, WritesWhatIsReadBackBitForBit) {
  const TemporaryFolder folder;
  const auto file = folder / "model.safetensors";
  const auto matrix = counted<float>(15, 1);
  const auto vector = counted<bf16>(7, 40);
  const auto cube = counted<f16>(8, -3);
  SafetensorsWriter writer(file, {{"matrix", DType::f32, {5, 3}},
                                  {"a \"quoted\" name", DType::bf16, {7}},
                                  {"empty", DType::f32, {0, 3}},
                                  {"cube", DType::f16, {2, 2, 2}}});
  for (std::size_t row = 0; row < 5; ++row) writer.write(matrix.data() + row * 3, 3 * sizeof(float));
  put(writer, vector);
  put(writer, cube);
  EXPECT_FALSE(exists(file)) << "before close()";
  writer.close();

  const Weights weights = open_safetensors(folder.path());
  EXPECT_EQ(weights.tensors().size(), 4U);
  EXPECT_EQ(whole<float>(weights, *weights.find("matrix")), matrix);
  EXPECT_EQ(read_bytes<bf16>(weights, *weights.find("a \"quoted\" name")),
            std::string(reinterpret_cast<const char*>(vector.data()), 14));
  EXPECT_EQ(read_bytes<f16>(weights, *weights.find("cube")),
            std::string(reinterpret_cast<const char*>(cube.data()), 16));
  EXPECT_EQ(weights.find("cube")->shape, (std::vector<Index>{2, 2, 2}));
  EXPECT_EQ(weights.find("matrix")->offset % 8, 0U) << "the data is aligned";
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1) << "no partial file is left";
}

TEST(SafetensorsWriter, LeavesTheOldFileAndNothingElseWhenNotClosed) {
  const TemporaryFolder folder;
  write_file(folder / "model.safetensors", "old");
  {
    SafetensorsWriter writer(folder / "model.safetensors", {{"a", DType::f32, {2}}});
    put(writer, counted<float>(2, 0));
  }
  EXPECT_EQ(contents_of(folder / "model.safetensors"), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(SafetensorsWriter, CountsTheBytes) {
  const TemporaryFolder folder;
  SafetensorsWriter writer(folder / "model.safetensors", {{"a", DType::f32, {2}}});
  put(writer, counted<float>(1, 0));
  EXPECT_THAT([&] { writer.close(); }, Refuses<InternalError>({"model.safetensors", "4 bytes still to come"}));
  EXPECT_THAT([&] { put(writer, counted<float>(2, 0)); }, Refuses<InternalError>({"8 bytes written where 4 are left"}));
}

TEST(SafetensorsWriter, SaysThatTheDiskIsFullAndLeavesNothing) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  const TemporaryFolder folder;
  std::filesystem::create_symlink("/dev/full", folder / "model.safetensors.partial");
  EXPECT_THAT(
      [&] {
        SafetensorsWriter(folder / "model.safetensors", {{"a", DType::f32, {2}}});
      },
      Refuses({"model.safetensors", "cannot be written: No space left on device"}));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(SafetensorsWriter, SaysThatTheFolderIsMissing) {
  const TemporaryFolder folder;
  EXPECT_THAT([&] { SafetensorsWriter(folder / "absent/model.safetensors", {}); },
              Refuses({"absent/model.safetensors", "No such file or directory"}));
}

TEST(SafetensorsWriter, SaysThatTheNameIsTakenByAFolder) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "model.safetensors/full");
  {
    SafetensorsWriter writer(folder / "model.safetensors", {});
    EXPECT_THAT([&] { writer.close(); }, Refuses({"model.safetensors: cannot be written"}));
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "model.safetensors.partial"));
}

}  // namespace
