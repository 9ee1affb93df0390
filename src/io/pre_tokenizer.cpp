#include <grist/io/pre_tokenizer.hpp>

#include <grist/core/errors.hpp>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <uninorm.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <span>

namespace grist::io {
namespace {

std::string pcre2_message(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

/// What one thread needs to match, whatever the expression.
struct MatchMemory {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, 16 << 20, nullptr);

  MatchMemory() { pcre2_jit_stack_assign(context, nullptr, stack); }
  ~MatchMemory() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  MatchMemory(const MatchMemory&) = delete;
  MatchMemory& operator=(const MatchMemory&) = delete;
};

void prepend(std::string& text, const Prepend& step, bool at_start) {
  if (text.empty() || (step.first_only && !at_start) || (step.unless_there && text.starts_with(step.text))) return;
  text.insert(0, step.text);
}

void to_normal_form(std::string& text, NormalForm form) {
  // Below U+0300, which is CC 80 in UTF-8, everything is in NFC.
  const auto composed = [](unsigned char byte) { return byte < 0xCC; };
  if (form == NormalForm::nfc && std::ranges::all_of(text, composed)) return;
  const uninorm_t rules = form == NormalForm::nfc    ? UNINORM_NFC
                          : form == NormalForm::nfd  ? UNINORM_NFD
                          : form == NormalForm::nfkc ? UNINORM_NFKC
                                                     : UNINORM_NFKD;
  std::size_t length = 0;
  const std::unique_ptr<std::uint8_t, decltype(&std::free)> normal(
      u8_normalize(rules, reinterpret_cast<const std::uint8_t*>(text.data()), text.size(), nullptr, &length),
      &std::free);
  if (!normal) throw MemoryError("no memory to bring {} bytes of text into a Unicode normal form", text.size());
  text.assign(reinterpret_cast<const char*>(normal.get()), length);
}

void cut(std::span<const PreTokenizerStep> steps, std::string_view text, bool at_start,
         const std::function<void(std::string_view)>& word) {
  if (text.empty()) return;
  if (steps.empty()) return word(text);
  const auto rest = steps.subspan(1);
  if (const auto* split = std::get_if<Split>(&steps.front())) {
    std::size_t done = 0;
    const auto keep = [&](std::size_t begin, std::size_t end) {
      cut(rest, text.substr(begin, end - begin), at_start && begin == 0, word);
    };
    while (const auto match = split->regex.find(text, done)) {
      const auto [begin, end] = *match;
      if (split->keep_between) keep(done, begin);
      if (split->keep_matches) keep(begin, end);
      done = end;
    }
    if (split->keep_between) keep(done, text.size());
    return;
  }
  std::string changed(text);
  if (const auto* replace = std::get_if<Replace>(&steps.front())) replace_all(changed, *replace);
  if (const auto* before = std::get_if<Prepend>(&steps.front())) prepend(changed, *before, at_start);
  cut(rest, changed, at_start, word);
}

}  // namespace

Regex::Regex(const std::string& pattern, std::string_view where) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (code == nullptr) {
    throw InputError("{}: bad regular expression at byte {}: {}: {}", where, offset, pcre2_message(error), pattern);
  }
  code_.reset(code, pcre2_code_free);
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where there is no JIT, pcre2_match interprets
}

std::optional<std::pair<std::size_t, std::size_t>> Regex::find(std::string_view text, std::size_t from) const {
  thread_local const MatchMemory memory;
  const int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                                PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, memory.data, memory.context);
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0) {
    throw InputError("the tokenizer's regular expression fails at byte {}: {}", from, pcre2_message(found));
  }
  const PCRE2_SIZE* const range = pcre2_get_ovector_pointer(memory.data);
  return std::pair(range[0], range[1]);
}

void replace_all(std::string& text, const Replace& replace) {
  if (text.find(replace.from) == std::string::npos) return;
  std::string result;
  std::size_t done = 0;
  for (std::size_t at = 0; (at = text.find(replace.from, done)) != std::string::npos; done = at + replace.from.size()) {
    result.append(text, done, at - done).append(replace.to);
  }
  text = result.append(text, done);
}

std::string normalize(const std::vector<NormalizerStep>& steps, std::string_view text) {
  std::string result(text);
  for (const NormalizerStep& step : steps) {
    if (const auto* before = std::get_if<Prepend>(&step)) prepend(result, *before, true);
    if (const auto* replace = std::get_if<Replace>(&step)) replace_all(result, *replace);
    if (const auto* form = std::get_if<NormalForm>(&step)) to_normal_form(result, *form);
  }
  return result;
}

void pre_tokenize(const std::vector<PreTokenizerStep>& steps, std::string_view text, bool at_start,
                  const std::function<void(std::string_view)>& word) {
  cut(steps, text, at_start, word);
}

}  // namespace grist::io
