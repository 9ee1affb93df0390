// The corpus that guesses come from.
#pragma once

#include <grist/comm/communicator.hpp>
#include <grist/generate/ngram_table.hpp>
#include <grist/text/tokenizer.hpp>

#include <string>
#include <vector>

namespace grist::cli {

/// Counts this rank's share of a corpus: token files, and all that Documents reads. Texts are cut at line ends into
/// blocks, which are dealt to the ranks; the blocks are the same for any number of ranks. `tokenizer` may be null where
/// there are no texts. Throws InputError for files that cannot be read, or tokens of another tokenizer or outside the
/// vocabulary, and with code 75 where a signal came.
NgramCounts count_corpus(const std::vector<std::string>& files, text::Tokenizer* tokenizer, Index vocab_size,
                         const Communicator& ranks);

}  // namespace grist::cli
