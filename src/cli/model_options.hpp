// Options that all verbs with a model share, and the loading that follows from them.
#pragma once

#include "runtime.hpp"
#include "verbs.hpp"

#include <grist/generate/sampler.hpp>
#include <grist/io/chat_template.hpp>
#include <grist/io/tokenizer.hpp>
#include <grist/model/model.hpp>

#include <functional>
#include <memory>
#include <string>

namespace grist::cli {

struct ModelOptionsGroup {
  std::string model;
  std::string dtype = "auto";
  std::string gemm = "auto";
  int tp = 1;
  int pp = 1;

  void add_to(CLI::App& app, Action& action);
  [[nodiscard]] Layout layout() const { return {.pp = pp, .tp = tp}; }
};

/// f32 or bf16; "auto" is what suits the files: f32 where they hold f32, else bf16.
DType chosen_type(const std::string& option, const ModelSpec& spec);

/// A model on its grid, and its tokenizer (null where the files hold none).
struct LoadedModel {
  std::unique_ptr<io::Tokenizer> tokenizer;
  std::unique_ptr<ProcessGrid> grid;
  std::unique_ptr<Model> model;
};

/// Opens, checks that layout and memory do, loads. `plan` runs on the root alone, which alone reads prompts and texts: it
/// sees spec and tokenizer and says for which sizes the model is to be built.
LoadedModel load_model(Runtime& runtime, const ModelOptionsGroup& options,
                       const std::function<ModelLimits(const ModelSpec&, const io::Tokenizer*)>& plan);

/// End tokens of model and tokenizer together.
std::vector<int> end_tokens(const ModelSpec& spec, const io::Tokenizer* tokenizer);

/// Token ids of a text; BOS alone for an empty one. Throws InputError where there is no tokenizer.
std::vector<int> encode_prompt(const ModelSpec& spec, const io::Tokenizer* tokenizer, const std::string& text,
                               bool add_special);

/// The prompt that the model's chat template makes of a conversation. Throws InputError where there is no template.
std::string chat_prompt(const io::Tokenizer* tokenizer, const std::vector<io::Message>& messages);

/// Options of sampling.
void add_sampling_options(CLI::App& app, SamplingOptions& sampling);

/// "1,15043,3186". Throws UsageError naming the option.
std::vector<int> parse_ids(const std::string& text, const char* option);

/// Throws InputError with `where` in front for a text that is not UTF-8.
void check_utf8(const std::string& text, const std::string& where);

/// A whole file of UTF-8. Throws InputError where it cannot be read or is something else.
std::string read_text(const std::string& file);

}  // namespace grist::cli
