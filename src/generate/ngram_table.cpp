#include <grist/generate/ngram_table.hpp>

#include <algorithm>
#include <utility>

namespace grist {
namespace {

constexpr int shortest_context = 2;
constexpr std::size_t counts_before_merge = 1 << 20;

/// Mixes all bits of a number into all others (splitmix64's last step, Steele et al. 2014).
std::uint64_t mixed(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// Contexts whose hashes are equal are taken for one: a guess is worse for it, no answer.
std::uint64_t key_of(std::span<const int> context) {
  std::uint64_t hash = 0x9e3779b97f4a7c15ULL * context.size();
  for (const int id : context) hash = mixed(hash + 0x9e3779b97f4a7c15ULL + static_cast<std::uint64_t>(id));
  return std::max<std::uint64_t>(1, hash);
}

std::uint64_t counted(int token, std::uint64_t count) { return static_cast<std::uint64_t>(token) << 32 | count; }
int token_of(const TableEntry& entry) { return static_cast<int>(entry.value >> 32); }
std::uint64_t count_of(const TableEntry& entry) { return entry.value & 0xffffffffU; }

/// Sums the counts of equal contexts and tokens; sorted by both.
void sum_counts(std::vector<TableEntry>& counts) {
  const auto context_and_token = [](const TableEntry& entry) { return std::pair(entry.key, token_of(entry)); };
  std::ranges::sort(counts, {}, context_and_token);
  std::size_t kept = 0;
  for (const auto& entry : counts) {
    if (kept > 0 && context_and_token(counts[kept - 1]) == context_and_token(entry)) {
      const auto sum = std::min<std::uint64_t>(count_of(counts[kept - 1]) + count_of(entry), 0xffffffffU);
      counts[kept - 1].value = counted(token_of(entry), sum);
    } else {
      counts[kept++] = entry;
    }
  }
  counts.resize(kept);
}

/// Of sorted counts the most frequent token of each context.
std::vector<TableEntry> likeliest_of(const std::vector<TableEntry>& counts) {
  std::vector<TableEntry> best;
  std::uint64_t most = 0;
  for (const auto& entry : counts) {
    const bool first = best.empty() || best.back().key != entry.key;
    if (!first && count_of(entry) <= most) continue;
    if (first) best.emplace_back();
    most = count_of(entry);
    best.back() = {entry.key, static_cast<std::uint64_t>(token_of(entry))};
  }
  return best;
}

/// This rank's part of the table.
std::vector<TableEntry> owned(const Communicator& ranks, NgramCounts counts) {
  auto mine = sent_to_owners(ranks, counts.take());
  sum_counts(mine);
  return likeliest_of(mine);
}

}  // namespace

void NgramCounts::add(std::span<const int> ids, std::size_t first) {
  for (std::size_t at = std::max<std::size_t>(first, shortest_context); at < ids.size(); ++at)
    for (std::size_t length = shortest_context; length <= std::min<std::size_t>(ngram_context, at); ++length)
      counts_.push_back({key_of(ids.subspan(at - length, length)), counted(ids[at], 1)});
  if (counts_.size() > 2 * merged_ + counts_before_merge) merge();
}

void NgramCounts::merge() {
  sum_counts(counts_);
  merged_ = counts_.size();
}

std::vector<TableEntry> NgramCounts::take() {
  merge();
  merged_ = 0;
  return std::exchange(counts_, {});
}

NgramTable::NgramTable(const Communicator& ranks, NgramCounts counts)
    : NgramTable(ranks, owned(ranks, std::move(counts))) {}

NgramTable::NgramTable(const Communicator& ranks, const std::vector<TableEntry>& mine)
    : contexts_(ranks.all_reduce(static_cast<Index>(mine.size()))), table_(ranks, mine) {}

std::vector<int> NgramTable::likeliest(std::span<const std::span<const int>> sequences) const {
  std::vector<std::uint64_t> keys;
  std::vector<std::size_t> places;  // the sequence of each, longer contexts first
  for (std::size_t i = 0; i < sequences.size(); ++i)
    for (std::size_t length = ngram_context; length >= shortest_context; --length)
      if (sequences[i].size() >= length) {
        keys.push_back(key_of(sequences[i].last(length)));
        places.push_back(i);
      }
  std::vector<int> tokens(sequences.size(), -1);
  const auto found = table_.find(keys);
  for (std::size_t k = 0; k < found.size(); ++k)
    if (int& token = tokens[places[k]]; found[k] && token < 0) token = static_cast<int>(*found[k]);
  return tokens;
}

std::vector<std::vector<int>> NgramDrafter::propose(std::span<const DraftQuery> sequences) {
  std::vector<std::vector<int>> texts, guesses(sequences.size());  // the end of each sequence, with its guesses
  for (const auto& query : sequences) {
    const auto end = query.ids.last(std::min<std::size_t>(ngram_context, query.ids.size()));
    texts.emplace_back(end.begin(), end.end());
  }
  std::vector<std::size_t> open;  // sequences that want another token
  for (std::size_t i = 0; i < sequences.size(); ++i) open.push_back(i);
  while (!open.empty()) {
    std::vector<std::span<const int>> ends;
    for (const std::size_t i : open) ends.emplace_back(texts[i]);
    const auto tokens = table_.likeliest(ends);
    std::vector<std::size_t> still;
    for (std::size_t k = 0; k < open.size(); ++k) {
      const std::size_t i = open[k];
      if (tokens[k] < 0) continue;
      texts[i].push_back(tokens[k]);
      guesses[i].push_back(tokens[k]);
      if (std::ssize(guesses[i]) < sequences[i].most) still.push_back(i);
    }
    open = std::move(still);
  }
  return guesses;
}

}  // namespace grist
