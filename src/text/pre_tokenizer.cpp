#include <grist/text/pre_tokenizer.hpp>

#include <grist/text/byte_alphabet.hpp>
#include <grist/text/unicode.hpp>
#include <grist/text/utf8.hpp>

#include <unictype.h>

#include <algorithm>
#include <cstring>
#include <span>

namespace grist::text {
namespace {

struct Part {
  std::size_t begin;
  std::size_t end;
  bool match;
};

/// Matches, and what lies between them.
std::vector<Part> parts_of(const Split& split, std::string_view text) {
  std::vector<Part> parts;
  std::size_t done = 0;
  Matches matches(split.regex, text);
  while (const auto match = matches.next()) {
    if (done != match->first) parts.push_back({done, match->first, split.invert});
    parts.push_back({match->first, match->second, !split.invert});
    done = match->second;
  }
  if (done != text.size()) parts.push_back({done, text.size(), split.invert});
  return parts;
}

/// Joins parts to words as the behavior has it; `match` then says what is gone.
std::vector<Part> joined(std::vector<Part> parts, SplitBehavior behavior) {
  using enum SplitBehavior;
  std::vector<Part> words;
  const bool backwards = behavior == merged_with_next;
  if (backwards) std::reverse(parts.begin(), parts.end());
  bool previous_match = false;
  for (const Part& part : parts) {
    const bool joins = behavior == contiguous ? part.match == previous_match : part.match && !previous_match;
    if (joins && !words.empty()) {
      if (backwards)
        words.back().begin = part.begin;
      else
        words.back().end = part.end;
    } else {
      words.push_back({part.begin, part.end, false});
    }
    previous_match = part.match;
  }
  if (backwards) std::reverse(words.begin(), words.end());
  return words;
}

template <class Keep>
void cut_at_matches(const Split& split, std::string_view text, Keep keep) {
  if (split.behavior != SplitBehavior::isolated && split.behavior != SplitBehavior::removed) {
    for (const Part& word : joined(parts_of(split, text), split.behavior)) keep(word.begin, word.end);
    return;
  }
  const bool keeps_matches = split.behavior == SplitBehavior::isolated || split.invert;
  const bool keeps_between = split.behavior == SplitBehavior::isolated || !split.invert;
  std::size_t done = 0;
  Matches matches(split.regex, text);
  while (const auto match = matches.next()) {
    if (keeps_between) keep(done, match->first);
    if (keeps_matches) keep(match->first, match->second);
    done = match->second;
  }
  if (keeps_between) keep(done, text.size());
}

/// The script of a character as the reference sees it; null for a blank, which belongs to any.
const uc_script_t* script_of(char32_t point) {
  static const uc_script_t* const han = uc_script_byname("Han");
  if (point == ' ') return nullptr;
  if (point == 0x30FC) return han;
  const uc_script_t* script = uc_script(point);
  if (script != nullptr && (std::strcmp(script->name, "Hiragana") == 0 || std::strcmp(script->name, "Katakana") == 0))
    return han;
  return script;
}

template <class Keep>
void cut_at_scripts(std::string_view text, Keep keep) {
  const uc_script_t* last = nullptr;
  std::size_t word = std::string_view::npos;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = first_character(text.substr(at)).length;
    const uc_script_t* script = script_of(code_points(text.substr(at, length))[0]);
    if (script != nullptr && script != last) {
      if (word != std::string_view::npos) keep(word, at);
      word = at;
      last = script;
    }
    at += length;
  }
  if (word != std::string_view::npos) keep(word, text.size());
}

void cut(std::span<const PreTokenizerStep> steps, std::string_view text, bool at_start,
         const std::function<void(std::string_view)>& word) {
  if (text.empty()) return;
  if (steps.empty()) return word(text);
  const auto rest = steps.subspan(1);
  const auto keep = [&](std::size_t begin, std::size_t end) {
    cut(rest, text.substr(begin, end - begin), at_start && begin == 0, word);
  };
  if (const auto* split = std::get_if<Split>(&steps.front())) return cut_at_matches(*split, text, keep);
  if (std::holds_alternative<SplitByScript>(steps.front())) return cut_at_scripts(text, keep);
  std::string changed(text);
  if (const auto* replace = std::get_if<Replace>(&steps.front())) replace_all(changed, *replace);
  if (const auto* before = std::get_if<Prepend>(&steps.front())) prepend(changed, *before, at_start);
  if (std::holds_alternative<WriteBytes>(steps.front())) changed = to_byte_alphabet(changed);
  cut(rest, changed, at_start, word);
}

}  // namespace

void pre_tokenize(const std::vector<PreTokenizerStep>& steps, std::string_view text, bool at_start,
                  const std::function<void(std::string_view)>& word) {
  cut(steps, text, at_start, word);
}

}  // namespace grist::text
