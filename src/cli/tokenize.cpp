// grist tokenize: token ids of a text, or the text of ids.
#include "model_options.hpp"

#include <nlohmann/json.hpp>

#include <iostream>

namespace grist::cli {
namespace {

struct Options {
  std::string model, text, file, ids;
  bool no_special = false;
  bool json = false;
};

void run(const Options& options, bool decode, bool from_file) {
  const auto tokenizer = io::load_tokenizer(options.model);
  if (!tokenizer) throw InputError("{}: no tokenizer there (tokenizer.json, tokenizer.model or a .gguf file)", options.model);
  if (decode) {
    std::cout << tokenizer->decode(parse_ids(options.ids, "--ids"), false) << '\n';
    return;
  }
  check_utf8(options.text, "--text");
  const auto ids = tokenizer->encode(from_file ? read_text(options.file) : options.text, !options.no_special);
  if (options.json) {
    std::cout << nlohmann::json(ids).dump() << '\n';
  } else {
    for (std::size_t i = 0; i < ids.size(); ++i) std::cout << (i ? " " : "") << ids[i];
    std::cout << '\n';
  }
}

}  // namespace

void add_tokenize(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("tokenize", "Token ids of a text, or with --ids the text of token ids");
  const auto options = std::make_shared<Options>();
  verb->add_option("--model", options->model, "Hugging Face folder or .gguf file")->required()->type_name("PATH");
  auto* input = verb->add_option_group("input");
  input->add_option("--text", options->text, "The text");
  auto* file = input->add_option("--file", options->file, "A file with the text")->type_name("FILE");
  auto* ids = input->add_option("--ids", options->ids, "Token ids to decode")->type_name("IDS");
  input->require_option(1);
  verb->add_flag("--no-special", options->no_special, "Do not add what the model puts around a text (BOS)");
  verb->add_flag("--json", options->json, "Ids as a JSON array");
  verb->callback([options, &action, file, ids] {
    action.run_alone = [options, decode = ids->count() > 0, from_file = file->count() > 0] { run(*options, decode, from_file); };
  });
}

}  // namespace grist::cli
