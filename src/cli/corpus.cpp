#include "corpus.hpp"

#include "documents.hpp"
#include "interrupt.hpp"
#include "progress.hpp"

#include <grist/core/errors.hpp>
#include <grist/text/conversation.hpp>
#include <grist/train/token_source.hpp>

#include <algorithm>

namespace grist::cli {
namespace {

constexpr std::size_t block_bytes = 1 << 16, block_tokens = 1 << 16;

/// The length of the next block of a text: whole lines; of longer lines whole words, or characters.
std::size_t block_length(std::string_view text) {
  if (text.size() <= block_bytes) return text.size();
  for (const char border : {'\n', ' '})
    if (const auto last = text.substr(0, block_bytes).rfind(border); last != std::string_view::npos && last > 0)
      return border == '\n' ? last + 1 : last;
  std::size_t cut = block_bytes;
  while ((static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;  // inside a character of UTF-8
  return cut;
}

/// Deals blocks to ranks in turn, and counts those of this one.
class Counting {
public:
  Counting(text::Tokenizer* tokenizer, const Communicator& ranks) : tokenizer_(tokenizer), ranks_(ranks) {}

  void add(const Document& document) {
    if (tokenizer_ == nullptr)
      throw InputError("{}: is a text, and the model has no tokenizer: give token files", document.place);
    if (!document.messages.empty()) {
      if (mine()) counts.add(text::encode_conversation(*tokenizer_, document.messages).ids);
      return;
    }
    for (std::string_view text = document.text; !text.empty();) {
      const auto length = block_length(text);
      if (mine()) counts.add(tokenizer_->encode(text.substr(0, length), false));
      text.remove_prefix(length);
    }
  }

  void add(const io::TokenFile& file) {
    std::vector<int> ids;
    for (std::uint64_t document = 0; document < file.documents(); ++document) {
      const auto begin = file.document_begin(document), end = file.document_begin(document + 1);
      for (auto first = begin; first < end; first += block_tokens) {
        if (!mine()) continue;
        const auto before = std::min<std::uint64_t>(first - begin, ngram_context);
        ids.resize(static_cast<std::size_t>(before + std::min<std::uint64_t>(block_tokens, end - first)));
        file.read(first - before, ids);
        counts.add(ids, static_cast<std::size_t>(before));
      }
    }
  }

  NgramCounts counts;

private:
  /// Whether the next block is this rank's.
  bool mine() {
    Interrupt::check("counting the corpus");
    return block_++ % static_cast<std::uint64_t>(ranks_.size()) == static_cast<std::uint64_t>(ranks_.rank());
  }

  text::Tokenizer* tokenizer_;
  const Communicator& ranks_;
  std::uint64_t block_ = 0;
};

}  // namespace

NgramCounts count_corpus(const std::vector<std::string>& files, text::Tokenizer* tokenizer, Index vocab_size,
                         const Communicator& ranks) {
  Counting counting(tokenizer, ranks);
  std::vector<std::string> texts;
  for (const auto& name : files) {
    if (std::filesystem::is_directory(name) || !io::is_token_file(name)) {
      texts.push_back(name);
      continue;
    }
    const auto file = train::token_source(name, tokenizer);
    if (static_cast<Index>(file.origin().vocab_size) > vocab_size)
      throw InputError("{}: its tokens are of a vocabulary of {}, the model has {}", name, file.origin().vocab_size,
                       vocab_size);
    counting.add(file);
  }
  Documents documents(texts);
  ProgressLine line("counting the corpus", ranks.rank() == 0 && !texts.empty());
  documents.each(0, [&](const Document& document) {
    counting.add(document);
    line.show(document.bytes_done, documents.bytes());
    return true;
  });
  return std::move(counting.counts);
}

}  // namespace grist::cli
