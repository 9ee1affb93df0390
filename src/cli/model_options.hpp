// Options that all verbs with a model share, and the loading that follows from them.
#pragma once

#include "runtime.hpp"
#include "texts.hpp"
#include "verbs.hpp"

#include <grist/text/chat_template.hpp>
#include <grist/text/tokenizer.hpp>
#include <grist/model/model.hpp>

#include <functional>
#include <memory>
#include <string>

namespace grist::cli {

struct ModelOptionsGroup {
  std::string model;
  std::string dtype = "auto";
  std::string weights = "stored";
  std::string kv_dtype = "auto";
  std::string products = "auto";
  int tp = 1;
  int pp = 1;
  int dp = 1;  // replicas; 0: of the ranks that are there

  void add_to(CLI::App& app, Action& action);
  /// --dp, for verbs whose work replicas share.
  CLI::Option* add_replicas_to(CLI::App& app);
  /// Once `verb` is parsed: without --dp as many replicas as the ranks give.
  void default_to_all_ranks(const CLI::App& verb);
  /// Of one replica.
  [[nodiscard]] Layout layout() const { return {.pp = pp, .tp = tp}; }
};

/// What --dtype, --weights and --kv-dtype say; "auto" is what suits the files: f32 where they hold f32, else bf16.
ModelNumbers chosen_numbers(const ModelOptionsGroup& options, Format stored);
/// The three options.
void add_number_options(CLI::App& app, ModelOptionsGroup& options);

/// A model on its grid, and its tokenizer (null where the files hold none). Of several replicas: this rank's.
struct LoadedModel {
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::unique_ptr<ProcessGrid> grid = {}, draft_grid = {};
  std::unique_ptr<Model> model = {};
  std::unique_ptr<Model> draft = {};  // the draft model, on the ranks of the first stage
  ModelTokens tokens;
  bool drafts = false;  // there is a draft model
};

/// Opens, checks that all ranks see the same files and that layout and memory do, loads. `plan` runs on the root alone,
/// which alone reads prompts and texts: it sees files and tokenizer and says for which sizes the model is to be built.
/// With `draft_model` a draft model is loaded beside it, whose vocabulary must be the same (check_same_vocabulary).
LoadedModel load_model(Runtime& runtime, const ModelOptionsGroup& options,
                       const std::function<ModelLimits(const ModelFiles&, const text::Tokenizer*)>& plan,
                       const std::string& draft_model = {});

/// Token ids of a text; BOS alone for an empty one. Throws InputError where there is no tokenizer.
std::vector<int> encode_prompt(const ModelTokens& tokens, const text::Tokenizer* tokenizer, const std::string& text,
                               bool add_special);

/// The prompt that the model's chat template makes of a conversation. Throws InputError where there is no template.
std::string chat_prompt(const text::Tokenizer* tokenizer, const std::vector<text::Message>& messages);

}  // namespace grist::cli
