// What a training step sees: a function of seed and step alone.
#include <grist/core/errors.hpp>
#include <grist/io/token_file_writer.hpp>
#include <grist/train/batches.hpp>
#include <support/files.hpp>
#include <support/refuses.hpp>

#include <algorithm>
#include <map>
#include <set>
#include <thread>

namespace {

using namespace grist;
using io::TokenFile;
using test::Refuses;
using test::TemporaryFolder;
using train::BatchSource;
using train::DataOrder;
using train::Sample;
using train::samples_of;

/// Document d has the tokens 100 d, 100 d + 1, ...: a token says where it comes from.
constexpr int most_tokens = 100;

class Data : public testing::Test {
protected:
  /// A file of documents of these lengths; `masked(token)` are not trained on.
  TokenFile file(
      const std::string& name, int first, const std::vector<int>& lengths,
      const std::function<bool(int)>& masked = [](int) { return false; }) {
    io::TokenFileWriter writer(folder / name, {.vocab_size = 100000, .fingerprint = 1});
    for (std::size_t d = 0; d < lengths.size(); ++d) {
      std::vector<int> ids;
      std::vector<char> trained;
      for (int i = 0; i < lengths[d]; ++i) {
        ids.push_back(most_tokens * (first + static_cast<int>(d)) + i);
        trained.push_back(masked(ids.back()) ? 0 : 1);
      }
      writer.append(ids, trained);
    }
    writer.close();
    return TokenFile(folder / name);
  }

  /// 40 documents of 0 to 39 tokens in two files, 780 in all.
  std::vector<TokenFile> two_files() {
    std::vector<int> lengths;
    for (int d = 0; d < 40; ++d) lengths.push_back(d * 7 % 40);
    return {file("a", 0, {lengths.begin(), lengths.begin() + 25}),
            file("b", 25, {lengths.begin() + 25, lengths.end()})};
  }

  TemporaryFolder folder;
};

std::vector<Sample> samples(const BatchSource& source, std::uint64_t first, std::uint64_t count) {
  std::vector<Sample> found(count);
  for (std::uint64_t k = 0; k < count; ++k) source.sample(first + k, found[k]);
  return found;
}

bool same(const Sample& a, const Sample& b) { return a.ids == b.ids && a.targets == b.targets && a.begins == b.begins; }

void expect_same(const std::vector<Sample>& a, const std::vector<Sample>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(same(a[i], b[i])) << i;
}

std::vector<int> stream_of(const std::vector<TokenFile>& files) {
  std::vector<int> stream;
  for (const auto& file : files) {
    std::vector<int> ids(file.tokens());
    file.read(0, ids);
    stream.insert(stream.end(), ids.begin(), ids.end());
  }
  return stream;
}

TEST_F(Data, InSequentialOrderIsCutFromOneStreamOfAllFiles) {
  const auto files = two_files();
  const auto stream = stream_of(files);
  for (const int length : {1, 7, 19, 779}) {
    const BatchSource source(files, length, DataOrder::sequential, 5);
    EXPECT_EQ(source.tokens(), stream.size());
    EXPECT_EQ(source.samples_per_epoch(), (stream.size() - 1) / static_cast<std::size_t>(length));
    for (std::uint64_t k = 0; k < source.samples_per_epoch(); ++k) {
      Sample sample;
      source.sample(k, sample);
      const auto begin = stream.begin() + static_cast<std::ptrdiff_t>(k) * length;
      EXPECT_EQ(sample.ids, std::vector<int>(begin, begin + length)) << k;
      EXPECT_EQ(sample.targets, std::vector<int>(begin + 1, begin + length + 1)) << k;
      EXPECT_EQ(sample.begins, std::vector<int>{0}) << k;
    }
    expect_same(samples(source, 0, 5), samples(source, 3 * source.samples_per_epoch(), 5));
  }
}

TEST_F(Data, IsNotTrainedOnWhereTheMaskSaysSo) {
  const auto odd = [](int id) { return id % 2 == 1; };
  const auto masked = file("a", 0, {50, 50}, odd);
  for (const auto order : {DataOrder::sequential, DataOrder::shuffled}) {
    const BatchSource source({masked}, 30, order, 5);
    for (const Sample& sample : samples(source, 0, 6)) {
      EXPECT_EQ(std::ranges::count_if(sample.ids, odd), 15);  // they are read
      // But they are no targets, as little as the beginning of another document.
      EXPECT_EQ(std::ranges::count(sample.targets, -1), 15 + static_cast<int>(sample.begins.size()) - 1);
      EXPECT_EQ(std::ranges::count_if(sample.targets, [&](int t) { return t >= 0 && odd(t); }), 0);
    }
  }
}

TEST_F(Data, InShuffledOrderHasEveryTokenOfAnEpochOnceAndDropsTheRest) {
  const auto files = two_files();
  const BatchSource source(files, 19, DataOrder::shuffled, 5);
  for (std::uint64_t epoch = 0; epoch < 4; ++epoch) {
    std::map<int, int> count;
    for (const Sample& sample : samples(source, epoch * source.samples_per_epoch(), source.samples_per_epoch()))
      for (const int id : sample.ids) ++count[id];
    EXPECT_EQ(count.size(), source.samples_per_epoch() * 19);
    for (const auto& [id, times] : count) EXPECT_EQ(times, 1) << id;
  }
}

TEST_F(Data, InShuffledOrderIsPackedDocumentByDocument) {
  const BatchSource source(two_files(), 19, DataOrder::shuffled, 5);
  int borders_inside = 0, borders_at_ends = 0;
  for (std::uint64_t number = 0; number < 10 * source.samples_per_epoch(); ++number) {
    SCOPED_TRACE(number);
    const auto two = samples(source, number, 2);
    const auto& [ids, targets, begins] = two[0];
    const bool last = (number + 1) % source.samples_per_epoch() == 0;
    std::vector<int> expected = {0};
    for (std::size_t i = 0; i < 19; ++i) {
      if (i == 18 && last) continue;  // what comes next, no sample shows
      const int next = i < 18 ? ids[i + 1] : two[1].ids[0];
      const bool border = next / most_tokens != ids[i] / most_tokens;
      EXPECT_EQ(next, border ? next / most_tokens * most_tokens : ids[i] + 1)
          << "the document goes on, or another begins";
      EXPECT_EQ(targets[i], border ? -1 : next);
      if (border && i < 18) expected.push_back(static_cast<int>(i) + 1);
      (i < 18 ? borders_inside : borders_at_ends) += border ? 1 : 0;
    }
    EXPECT_EQ(begins, expected);
  }
  EXPECT_GT(borders_inside, 200);
  EXPECT_GT(borders_at_ends, 0);
}

/// The documents of an epoch as they come.
std::vector<int> documents_of(const BatchSource& source, std::uint64_t epoch) {
  std::vector<int> order;
  for (const Sample& sample : samples(source, epoch * source.samples_per_epoch(), source.samples_per_epoch()))
    for (const int id : sample.ids)
      if (order.empty() || order.back() != id / most_tokens) order.push_back(id / most_tokens);
  return order;
}

TEST_F(Data, ComesInAnotherOrderInEveryEpochAndForEverySeed) {
  const auto files = two_files();
  std::set<std::vector<int>> orders;
  for (const std::uint64_t seed : {0U, 1U, 2U}) {
    const BatchSource source(files, 13, DataOrder::shuffled, seed);
    for (std::uint64_t epoch = 0; epoch < 5; ++epoch) EXPECT_TRUE(orders.insert(documents_of(source, epoch)).second);
  }
}

TEST_F(Data, OfAStepIsTheSameForEveryNumberOfRanks) {
  for (const Index batch : {1, 6, 12, 13}) {
    for (const std::uint64_t step : {0U, 1U, 1000000U}) {
      for (int dp = 1; dp <= 5; ++dp) {
        std::uint64_t next = step * static_cast<std::uint64_t>(batch);
        for (int rank = 0; rank < dp; ++rank) {
          const auto [first, count] = samples_of(step, batch, rank, dp);
          EXPECT_EQ(first, next);
          EXPECT_GE(count, batch / dp);
          EXPECT_LE(count, (batch + dp - 1) / dp);
          next += static_cast<std::uint64_t>(count);
        }
        EXPECT_EQ(next, (step + 1) * static_cast<std::uint64_t>(batch));
      }
    }
  }
}

// The silent fault of others: another order after a resume in the middle of a later epoch, or at another dp.
TEST_F(Data, GoesOnTheSameWhereverARunResumesAtAnyNumberOfRanks) {
  const auto files = two_files();
  constexpr Index batch = 6;
  constexpr std::uint64_t steps = 30;  // four epochs and a half, which end within steps
  for (const auto order : {DataOrder::sequential, DataOrder::shuffled}) {
    const BatchSource undisturbed(files, 19, order, 5);
    ASSERT_NE(undisturbed.samples_per_epoch() % batch, 0U);
    const auto all = samples(undisturbed, 0, steps * batch);
    for (std::uint64_t resumed = 0; resumed < steps; resumed += 3) {
      const int dp = static_cast<int>(resumed) % 4 + 1;
      for (int rank = dp - 1; rank >= 0; --rank) {
        const BatchSource source(files, 19, order, 5);
        for (std::uint64_t step = resumed; step < steps; ++step) {
          const auto [first, count] = samples_of(step, batch, rank, dp);
          for (std::uint64_t k = first; k < first + static_cast<std::uint64_t>(count); ++k) {
            Sample sample;
            source.sample(k, sample);
            EXPECT_TRUE(same(sample, all[k])) << resumed << ' ' << rank << ' ' << k;
          }
        }
      }
    }
  }
}

TEST_F(Data, MayBeReadByThreadsInDifferentEpochs) {
  const BatchSource source(two_files(), 19, DataOrder::shuffled, 5);
  const auto expected = samples(source, 0, 200);
  std::vector<Sample> found(expected.size());
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (std::size_t k = t; k < found.size(); k += 4)
        source.sample(found.size() - 1 - k, found[found.size() - 1 - k]);
    });
  for (auto& thread : threads) thread.join();
  expect_same(found, expected);
}

TEST_F(Data, OfOneTokenADocumentOrOneDocumentIsPackedToo) {
  const BatchSource ones({file("ones", 0, std::vector<int>(10, 1))}, 4, DataOrder::shuffled, 1);
  for (const Sample& sample : samples(ones, 0, 4)) {
    EXPECT_EQ(sample.begins, (std::vector<int>{0, 1, 2, 3}));
    EXPECT_EQ(sample.targets, std::vector<int>(4, -1));
  }
  const BatchSource one({file("one", 0, {9})}, 4, DataOrder::shuffled, 1);
  EXPECT_EQ(samples(one, 3, 1)[0].ids, (std::vector<int>{4, 5, 6, 7}));
  EXPECT_EQ(samples(one, 3, 1)[0].targets, (std::vector<int>{5, 6, 7, 8}));
}

TEST_F(Data, ThatCannotBeTrainedOnIsRefused) {
  const auto small = file("small", 0, {5, 3});
  EXPECT_NO_THROW(BatchSource({small}, 7, DataOrder::shuffled, 0));
  EXPECT_THAT([&] { BatchSource({small}, 8, DataOrder::shuffled, 0); }, Refuses({"small: 8 tokens", "at least 9"}));
  EXPECT_THAT([&] { BatchSource({small}, 0, DataOrder::shuffled, 0); }, Refuses<UsageError>({"0 tokens"}));
  EXPECT_THAT([&] { BatchSource({}, 8, DataOrder::shuffled, 0); }, Refuses<UsageError>({"data"}));
  const TokenFile other("other", {.vocab_size = 100000, .fingerprint = 2}, {1, 2, 3});
  EXPECT_THAT(
      [&] {
        BatchSource({small, other}, 2, DataOrder::shuffled, 0);
      },
      Refuses({"other: ", "another tokenizer", "small"}));
}

TEST_F(Data, HaveNoMoreDocumentsInASampleThanTheyTell) {
  const auto files = two_files();
  for (const int length : {1, 7, 19, 150}) {
    const BatchSource source(files, length, DataOrder::shuffled, 5);
    std::size_t documents = 0;
    for (const auto& sample : samples(source, 0, 40 * source.samples_per_epoch()))
      documents = std::max(documents, sample.begins.size());
    EXPECT_LE(std::ssize(samples(source, 0, 1).front().begins), source.most_documents());
    EXPECT_LE(static_cast<int>(documents), source.most_documents()) << length;
    EXPECT_LE(source.most_documents(), std::min(length, 20)) << "lengths are 1, 2, 3 ...: 17 of them are 153 tokens";
    EXPECT_EQ(BatchSource(files, length, DataOrder::sequential, 5).most_documents(), 1);
  }
  const BatchSource short_ones({file("c", 0, {1, 50, 1, 1, 50, 1})}, 8, DataOrder::shuffled, 5);
  EXPECT_EQ(short_ones.most_documents(), 4 + 2) << "between two long ones";
}

}  // namespace
