// grist tokenize: token ids of a text, or the text of ids.
#include "runtime.hpp"
#include "texts.hpp"
#include "verbs.hpp"

#include <grist/core/errors.hpp>
#include <grist/io/gguf.hpp>
#include <grist/text/tokenizer.hpp>

#include <nlohmann/json.hpp>

#include <iostream>

namespace grist::cli {
namespace {

struct Options {
  std::string model, file, ids;
  std::optional<std::string> text;
  bool no_special = false;
  bool json = false;
};

void run(const Options& options, bool decode) {
  const auto tokenizer = text::load_tokenizer(io::gguf_file_of(options.model));
  if (!tokenizer)
    throw InputError("{}: no tokenizer there (tokenizer.json, tokenizer.model or a GGUF file)", options.model);
  for (const std::string& remark : tokenizer->notes) note(remark);
  if (decode) {
    std::cout << tokenizer->decode(parse_ids(options.ids, "--ids"), false) << '\n';
    return;
  }
  if (options.text) check_utf8(*options.text, "--text");
  const auto ids = tokenizer->encode(options.text ? *options.text : read_text(options.file), !options.no_special);
  if (tokenizer->doubles_bos(ids)) note(second_bos);
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
  action.alone.insert(verb);
  const auto options = std::make_shared<Options>();
  verb->add_option("--model", options->model, "Hugging Face folder, GGUF file, or a folder with one GGUF file")
      ->required()
      ->type_name("PATH");
  auto* input = verb->add_option_group("input");
  add_text(*input, "--text", options->text, "The text");
  input
      ->add_option(
          "--file", options->file,
          "A file with the text, - for stdin; taken as it is, a last newline too, but a byte order mark is left out")
      ->type_name("FILE");
  auto* ids = input->add_option("--ids", options->ids, "Token ids to decode")->type_name("IDS");
  input->require_option(1);
  verb->add_flag("--no-special", options->no_special, "Do not add what the model puts around a text (BOS)");
  verb->add_flag("--json", options->json, "Ids as a JSON array");
  verb->footer("Needs neither MPI nor a GPU; every process that a launcher starts does its own. Examples:\n"
               "  grist tokenize --model MODEL --text \"Hello world\" --json\n"
               "  grist tokenize --model MODEL --ids 19556,905\n"
               "  cat part.txt | grist tokenize --model MODEL --file - | wc -w");
  verb->callback([options, &action, ids] {
    action.run_alone = [options, decode = ids->count() > 0] { run(*options, decode); };
  });
}

}  // namespace grist::cli
