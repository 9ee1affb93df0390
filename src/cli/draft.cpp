#include "draft.hpp"

#include "corpus.hpp"
#include "documents.hpp"

#include <grist/generate/draft_model.hpp>
#include <grist/generate/prompt_lookup.hpp>

#include <format>

namespace grist::cli {

void DraftOptions::add_to(CLI::App& app) {
  app.add_option("--draft-tokens", tokens,
                 "Speculative decoding: guess up to N tokens and check them in one pass. The answer is the same. "
                 "Guesses are what followed the last tokens in the prompt and answer before, so that repetitive texts "
                 "come faster, or what one of the next two options says; with these N is 4 where it is not given")
      ->check(CLI::Range(0, 64))
      ->type_name("N")
      ->default_str("0");
  auto* from_corpus =
      app.add_option("--draft-corpus", corpus,
                     "Guess the token that follows the last three, or two, most often in these texts: a text, a .jsonl "
                     "file (a document a line: text, or messages), a folder, or a token file of `grist tokenize "
                     "--output`; repeatable. Counted at each start, by all ranks, which share the table: about 50 "
                     "bytes for each three tokens that differ")
          ->check([](const std::string& name) { return name == "-" ? "is a file, not stdin" : ""; })
          ->allow_extra_args(false)
          ->type_name("FILE");
  auto* from_model = app.add_option("--draft-model", model,
                                    "Guess by a smaller model of the same vocabulary: Hugging Face folder or GGUF "
                                    "file. It runs on the ranks of the first stage, over their --tp, with --dtype, "
                                    "--weights and --kv-dtype as the model")
                         ->type_name("PATH");
  from_corpus->excludes(from_model);
}

void DraftOptions::check(const SamplingOptions& sampling, bool root) const {
  if (tokens == 0 && !(corpus.empty() && model.empty()))
    throw UsageError("--draft-tokens is 0, and {} says where guesses come from: leave one of them away",
                     corpus.empty() ? "--draft-model" : "--draft-corpus");
  const Documents there(corpus);
  if (root && draft_tokens() > 0 && sampling.repetition_penalty != 1)
    note(std::format("with a repetition penalty ({}) nothing is guessed; --repetition-penalty 1 turns it off",
                     sampling.repetition_penalty));
}

DraftSource::DraftSource(Runtime& runtime, const LoadedModel& loaded, const DraftOptions& options)
    : runtime_(runtime), loaded_(loaded), draft_tokens_(options.draft_tokens()) {
  if (options.corpus.empty()) return;
  NgramCounts counts;
  runtime.together([&] {
    counts = count_corpus(options.corpus, loaded.tokenizer.get(), loaded.model->spec().vocab_size, runtime.world());
  });
  table_.emplace(runtime.world(), std::move(counts));
}

std::unique_ptr<Drafter> DraftSource::drafter() const {
  if (draft_tokens_ == 0) return nullptr;
  if (table_) return std::make_unique<NgramDrafter>(*table_);
  if (loaded_.drafts) return std::make_unique<ModelDrafter>(runtime_.exec(), *loaded_.model, loaded_.draft.get());
  return std::make_unique<PromptLookup>();
}

void GuessCount::add(std::size_t tokens, int guessed, int right) {
  tokens_ += tokens;
  guessed_ += static_cast<std::size_t>(guessed);
  right_ += static_cast<std::size_t>(right);
}

void GuessCount::add(const PassTimes::Compared& times) {
  times_.with_guesses += times.with_guesses;
  times_.without += times.without;
}

std::string GuessCount::text() const {
  if (guessed_ == 0) return "nothing was guessed: every pass gave one token";
  const auto told = std::format("guessed {} tokens, {} of them right: {:.2f} tokens a pass", guessed_, right_,
                                static_cast<double>(tokens_) / static_cast<double>(tokens_ - right_));
  if (times_.with_guesses <= 0) return told + "; too few passes without guesses to say how much faster";
  return told + std::format("; {:.2f} x as fast as passes without guesses", times_.without / times_.with_guesses);
}

}  // namespace grist::cli
