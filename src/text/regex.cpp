#include <grist/text/regex.hpp>

#include <grist/core/errors.hpp>
#include <grist/text/utf8.hpp>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

namespace grist::text {
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

}  // namespace

Regex::Regex(const std::string& pattern, std::string_view where) {
  const std::string translated = translate_pattern(pattern, where);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_ALT_EXTENDED_CLASS,
                    &error, &offset, nullptr);
  if (code == nullptr) throw InputError("{}: bad regular expression: {}: {}", where, pcre2_message(error), pattern);
  code_.reset(code, pcre2_code_free);
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where there is no JIT, pcre2_match interprets
}

Regex Regex::literal(std::string_view text, std::string_view where) {
  std::string pattern;
  for (const char c : text) {
    const bool plain = (c & 0x80) != 0 || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    if (c == '\0') throw InputError("{}: a pattern with a zero byte is not supported", where);
    if (!plain) pattern += '\\';
    if (c == '\n')
      pattern += 'n';
    else
      pattern += c;
  }
  return {pattern, where};
}

std::optional<std::pair<std::size_t, std::size_t>> Regex::find(std::string_view text, std::size_t from) const {
  thread_local const MatchMemory memory;
  const int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                                PCRE2_NO_UTF_CHECK, memory.data, memory.context);
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0) {
    throw InputError("the tokenizer's regular expression fails at byte {}: {}", from, pcre2_message(found));
  }
  const PCRE2_SIZE* const range = pcre2_get_ovector_pointer(memory.data);
  return std::pair(range[0], range[1]);
}

std::optional<std::pair<std::size_t, std::size_t>> Matches::next() {
  while (from_ <= text_.size()) {
    const auto match = regex_.find(text_, from_);
    if (!match) break;
    const auto [begin, end] = *match;
    if (begin == end && last_end_ == end) {
      from_ = end == text_.size() ? end + 1 : end + first_character(text_.substr(end)).length;
      continue;
    }
    from_ = end;
    last_end_ = end;
    return match;
  }
  from_ = text_.size() + 1;
  return std::nullopt;
}

}  // namespace grist::text
