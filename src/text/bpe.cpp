#include <grist/text/bpe.hpp>

#include <grist/core/errors.hpp>
#include <grist/text/byte_alphabet.hpp>
#include <grist/text/decoder.hpp>
#include <grist/text/utf8.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <format>
#include <functional>
#include <numeric>
#include <queue>
#include <tuple>

namespace grist::text {
namespace {

/// Pairs of ids to merges: open addressing in an array of a power of two, at most half full.
class MergeTable {
public:
  explicit MergeTable(const std::vector<Merge>& merges) : slots_(std::bit_ceil(2 * merges.size() + 1)) {
    for (const Merge& merge : merges) {
      const std::uint64_t pair = key(merge.left, merge.right);
      slots_[find_slot(pair)] = {pair, merge};
    }
  }

  [[nodiscard]] const Merge* find(int left, int right) const {
    const Slot& slot = slots_[find_slot(key(left, right))];
    return slot.key == empty ? nullptr : &slot.merge;
  }

private:
  static constexpr std::uint64_t empty = ~std::uint64_t{0};
  struct Slot {
    std::uint64_t key = empty;
    Merge merge{};
  };

  static std::uint64_t key(int left, int right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }
  [[nodiscard]] std::size_t find_slot(std::uint64_t key) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = (key * 0x9E3779B97F4A7C15U >> 32) & mask;
    while (slots_[at].key != key && slots_[at].key != empty) at = (at + 1) & mask;
    return at;
  }

  std::vector<Slot> slots_;
};

class BpeModel final : public WordModel {
public:
  explicit BpeModel(BpeParts parts)
      : WordModel(std::move(parts.pre_tokenizer)), parts_(std::move(parts)), merges_(parts_.merges) {
    for (unsigned b = 0; b < 256; ++b) {
      byte_ids_[b] = find(parts_.byte_level ? byte_alphabet()[b] : std::format("<0x{:02X}>", b));
    }
    if (!parts_.byte_level && never_merges_before_space()) {
      pre_tokenizer_.emplace_back(Split{Regex(std::format("{0}*[^{0}]+|{0}+", space_mark), "space mark")});
    }
  }

private:
  /// A piece in the making: a node of a list in an array.
  struct Symbol {
    int id;
    int previous;
    int next;  // -1: none
  };
  struct Candidate {
    int rank;
    int left;  // index of the left symbol
    int id;
    bool operator>(const Candidate& other) const { return std::tie(rank, left) > std::tie(other.rank, other.left); }
  };

  [[nodiscard]] int find(std::string_view piece) const {
    const auto found = parts_.vocab.find(piece);
    return found == parts_.vocab.end() ? -1 : found->second;
  }

  /// Whether no piece holds a space mark behind another character: then words can be merged one by one.
  [[nodiscard]] bool never_merges_before_space() const {
    return find(space_mark) >= 0 && std::ranges::none_of(parts_.vocab, [](const auto& entry) {
             std::string_view piece = entry.first;
             while (piece.starts_with(space_mark)) piece.remove_prefix(space_mark.size());
             return piece.find(space_mark) != std::string_view::npos;
           });
  }

  /// The id of one character of a word, with the marks of its place.
  [[nodiscard]] int find_character(std::string_view character, bool first, bool last) const {
    if (parts_.inner_prefix.empty() && parts_.word_suffix.empty()) return find(character);
    return find((first ? "" : parts_.inner_prefix) + std::string(character) + (last ? parts_.word_suffix : ""));
  }

  [[nodiscard]] bool has_bytes(std::string_view character) const {
    return std::ranges::all_of(character, [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)] >= 0; });
  }

  [[nodiscard]] std::vector<int> first_ids(std::string_view word) const {
    std::vector<int> ids;
    bool unknown_before = false;
    const auto add_unknown = [&] {
      if (parts_.unknown >= 0 && !(unknown_before && parts_.fuse_unknown)) ids.push_back(parts_.unknown);
      unknown_before = true;
    };
    const auto add = [&](int id) {
      ids.push_back(id);
      unknown_before = false;
    };
    for (bool first = true; !word.empty(); first = false) {
      const std::size_t length = parts_.byte_level ? 1 : first_character(word).length;
      const std::string_view character = word.substr(0, length);
      word.remove_prefix(length);
      const int id = parts_.byte_level ? byte_ids_[static_cast<unsigned char>(character[0])]
                                       : find_character(character, first, word.empty());
      if (id >= 0) {
        add(id);
      } else if (parts_.byte_fallback && has_bytes(character)) {
        for (const char byte : character) add(byte_ids_[static_cast<unsigned char>(byte)]);
      } else {
        add_unknown();
      }
    }
    return ids;
  }

  [[nodiscard]] int whole_word(std::string_view word) const {
    return parts_.byte_level ? find(to_byte_alphabet(word)) : find(word);
  }

  [[nodiscard]] std::vector<int> encode_word(std::string_view word) const override {
    if (parts_.ignore_merges) {
      if (const int id = whole_word(word); id >= 0) return {id};
    }
    std::vector<int> ids = first_ids(word);
    const int count = static_cast<int>(ids.size());
    std::vector<Symbol> symbols(ids.size());
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
    const auto at = [&](int i) -> Symbol& { return symbols[static_cast<std::size_t>(i)]; };
    const auto consider = [&](int left) {
      if (left < 0 || at(left).next < 0) return;
      if (const Merge* merge = merges_.find(at(left).id, at(at(left).next).id)) {
        candidates.push({merge->rank, left, merge->made});
      }
    };
    for (int i = 0; i < count; ++i) at(i) = {ids[static_cast<std::size_t>(i)], i - 1, i + 1 < count ? i + 1 : -1};
    for (int i = 0; i < count; ++i) consider(i);

    constexpr int gone = -1;
    while (!candidates.empty()) {
      const Candidate best = candidates.top();
      candidates.pop();
      Symbol& left = at(best.left);
      if (left.id == gone || left.next < 0) continue;
      Symbol& right = at(left.next);
      const Merge* merge = merges_.find(left.id, right.id);
      if (merge == nullptr || merge->made != best.id) continue;  // one of the two has changed since
      left.id = best.id;
      left.next = right.next;
      right.id = gone;
      if (left.next >= 0) at(left.next).previous = best.left;
      consider(left.previous);
      consider(best.left);
    }
    ids.clear();
    for (int i = count > 0 ? 0 : -1; i >= 0; i = at(i).next) ids.push_back(at(i).id);
    return ids;
  }

  BpeParts parts_;
  MergeTable merges_;
  std::array<int, 256> byte_ids_{};
};

}  // namespace

PiecePair split_merge(const std::string& merge, const std::string& where) {
  const std::size_t space = merge.find(' ');
  if (space == std::string::npos || merge.find(' ', space + 1) != std::string::npos) {
    throw InputError("{}: found the merge '{}', expected two pieces with a space between", where, merge);
  }
  return {merge.substr(0, space), merge.substr(space + 1)};
}

std::vector<Merge> merges_in_order(const StringMap<int>& vocab, const std::vector<PiecePair>& pairs,
                                   const std::string& where, std::string_view inner_prefix) {
  std::vector<Merge> merges;
  merges.reserve(pairs.size());
  for (const auto& [left, right] : pairs) {
    const int rank = static_cast<int>(merges.size());
    const auto id = [&](const std::string& piece) {
      if (const auto found = vocab.find(piece); found != vocab.end()) return found->second;
      throw InputError("{}: merge {} of '{}' and '{}' needs the piece '{}', which the vocabulary does not have", where,
                       rank, left, right, piece);
    };
    const std::size_t skipped = right.starts_with(inner_prefix) ? inner_prefix.size() : 0;
    merges.push_back({id(left), id(right), rank, id(left + right.substr(skipped))});
  }
  return merges;
}

std::vector<Merge> merges_by_score(const StringMap<int>& vocab, const std::vector<double>& scores) {
  const auto score = [&](int id) { return scores[static_cast<std::size_t>(id)]; };
  std::vector<int> ranks(scores.size());  // equal scores have equal ranks
  std::vector<int> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, std::ranges::greater{}, score);
  for (std::size_t i = 1; i < order.size(); ++i) {
    const auto rank = [&](std::size_t place) -> int& { return ranks[static_cast<std::size_t>(order[place])]; };
    rank(i) = rank(i - 1) + (score(order[i]) < score(order[i - 1]) ? 1 : 0);
  }
  std::vector<Merge> merges;
  for (const auto& [piece, id] : vocab) {
    for (std::size_t cut = first_character(piece).length; cut < piece.size();) {
      const auto left = vocab.find(std::string_view(piece).substr(0, cut));
      const auto right = vocab.find(std::string_view(piece).substr(cut));
      if (left != vocab.end() && right != vocab.end()) {
        merges.push_back({left->second, right->second, ranks[static_cast<std::size_t>(id)], id});
      }
      cut += first_character(std::string_view(piece).substr(cut)).length;
    }
  }
  return merges;
}

std::unique_ptr<TextModel> make_bpe(BpeParts parts) { return std::make_unique<BpeModel>(std::move(parts)); }

}  // namespace grist::text
