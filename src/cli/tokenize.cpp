// grist tokenize: token ids of a text, the text of ids, or a token file for training.
#include "documents.hpp"
#include "interrupt.hpp"
#include "progress.hpp"
#include "runtime.hpp"
#include "texts.hpp"
#include "verbs.hpp"

#include <grist/core/errors.hpp>
#include <grist/core/philox.hpp>
#include <grist/io/gguf.hpp>
#include <grist/io/token_file_writer.hpp>
#include <grist/text/conversation.hpp>
#include <grist/text/tokenizer.hpp>

#include <nlohmann/json.hpp>

#include <iostream>

namespace grist::cli {
namespace {

struct TokenizeOptions {
  std::string model, ids, output;
  std::vector<std::string> files;
  std::optional<std::string> text;
  bool no_special = false;
  bool json = false;
};

/// One document as tokens.
struct DocumentTokens {
  std::vector<int> ids;
  std::vector<char> trained;  // for each id; empty: all are
};

/// A text ends with the EOS token, so that a model learns to end; a conversation as its template says, and of it the
/// assistant's answers alone are trained on.
DocumentTokens encode(const text::Tokenizer& tokenizer, const Document& document, bool special) {
  try {
    if (!document.messages.empty()) {
      auto [ids, trained] = text::encode_conversation(tokenizer, document.messages);
      return {std::move(ids), std::move(trained)};
    }
    DocumentTokens tokens{tokenizer.encode(document.text, special), {}};
    const int end = special && !tokenizer.eos.empty() ? tokenizer.eos.front() : -1;
    if (end >= 0 && (tokens.ids.empty() || tokens.ids.back() != end)) tokens.ids.push_back(end);
    return tokens;
  } catch (const Error& error) {
    if (error.code() == ended_by_signal) throw;
    throw InputError("{}: {}", document.place, error.what());
  }
}

/// Whether a file is there already, made of the same. Throws InputError where it is something else.
bool is_made(const std::filesystem::path& file, const io::TokenOrigin& origin) {
  if (!exists(file)) return false;
  const io::TokenFile made(file);
  if (made.origin() != origin)
    throw InputError("{}: was made from other inputs, with another tokenizer or options: remove it", made.name());
  note(std::format("{}: is made already, of the same inputs", made.name()));
  return true;
}

/// Whether a file would lie in a folder that is read.
void check_output(const TokenizeOptions& options) {
  const auto parent = weakly_canonical(std::filesystem::absolute(options.output)).parent_path();
  for (const std::string& input : options.files) {
    if (!std::filesystem::is_directory(input)) continue;
    const auto inside = parent.lexically_relative(std::filesystem::canonical(input));
    if (!inside.string().starts_with(".."))
      throw UsageError("--output {}: lies in {}, which is read", options.output, input);
  }
}

void write_tokens(const TokenizeOptions& options, text::Tokenizer& tokenizer) {
  check_output(options);
  Documents documents(options.files);
  const std::string encoding = std::format("{}, EOS behind a text\n{}\n", !options.no_special, tokenizer.chat_template);
  const io::TokenOrigin origin{.vocab_size = static_cast<std::uint64_t>(tokenizer.vocab_size()),
                               .fingerprint = text::fingerprint(tokenizer),
                               .sources = hash_name(encoding + documents.describe())};
  if (is_made(options.output, origin)) return;
  const Interrupt interrupt(ending_signals);
  tokenizer.pause = [] { Interrupt::check("tokenizing"); };
  io::TokenFileWriter writer(options.output, origin);
  if (writer.documents() > 0)
    note(std::format("{}: {} documents are done, the others follow", options.output, writer.documents()));
  bool all = false, doubled = false;
  try {
    ProgressLine progress("tokenizing", true);
    all = documents.each(writer.documents(), [&](const Document& document) {
      const auto [ids, trained] = encode(tokenizer, document, !options.no_special);
      if (!doubled && tokenizer.doubles_bos(ids)) note(second_bos);
      doubled = doubled || tokenizer.doubles_bos(ids);
      writer.append(ids, trained);
      progress.show(document.bytes_done, documents.bytes());
      return !Interrupt::came();
    });
  } catch (const Error& error) {  // in the middle of a document, which the same command begins anew
    if (error.code() != ended_by_signal) throw;
  }
  if (!all) {
    writer.flush();
    note(std::format("{}: stopped by a signal after {} documents; the same command continues", options.output,
                     writer.documents()));
    throw ToldError{ended_by_signal};
  }
  writer.close();
  std::cout << std::format("{}: {} documents, {} tokens\n", options.output, writer.documents(), writer.tokens());
}

void check_usage(const TokenizeOptions& options) {
  if (options.output.empty() && options.files.size() > 1)
    throw UsageError("several --file: their ids have no borders on one line; --output FILE keeps them");
  if (!options.output.empty() && options.files.empty())
    throw UsageError("--output: wants --file with a text, a .jsonl file or a folder");
  if (!options.output.empty() && options.json) throw UsageError("--output and --json exclude each other");
}

void run(const TokenizeOptions& options, bool decode) {
  check_usage(options);
  const auto tokenizer = text::load_tokenizer(io::gguf_file_of(options.model));
  if (!tokenizer)
    throw InputError("{}: no tokenizer there (tokenizer.json, tokenizer.model or a GGUF file)", options.model);
  note_all(tokenizer->notes);
  if (!options.output.empty()) {
    write_tokens(options, *tokenizer);
    return;
  }
  if (decode) {
    std::cout << tokenizer->decode(parse_ids(options.ids, "--ids"), false) << '\n';
    return;
  }
  if (options.text) check_utf8(*options.text, "--text");
  const auto ids = tokenizer->encode(options.text ? *options.text : read_text(options.files[0]), !options.no_special);
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
  auto* verb = app.add_subcommand(
      "tokenize", "Token ids of a text, with --ids the text of token ids, with --output a token file for training");
  action.alone.insert(verb);
  const auto options = std::make_shared<TokenizeOptions>();
  verb->add_option("--model", options->model, "Hugging Face folder, GGUF file, or a folder with one GGUF file")
      ->required()
      ->type_name("PATH");
  auto* input = verb->add_option_group("input");
  add_text(*input, "--text", options->text, "The text");
  add_texts(*input, "--file",
            "A file with the text, - for stdin; taken as it is, a last newline too, but a byte order mark is left out. "
            "With --output repeatable, also a .jsonl file (a document a line: text, or messages) or a folder")
      ->type_name("FILE")
      ->each([files = &options->files](const std::string& file) { files->push_back(file); });
  auto* ids = input->add_option("--ids", options->ids, "Token ids to decode")->type_name("IDS");
  input->require_option(1);
  verb->add_option("--output", options->output,
                   "Write a token file for training instead. A text ends with the EOS token; of messages the "
                   "assistant's answers alone are trained on. After a signal (exit code 75) or a crash the same "
                   "command continues")
      ->type_name("FILE");
  verb->add_flag("--no-special", options->no_special,
                 "Do not add what the model puts around a text (BOS), and with --output no EOS");
  verb->add_flag("--json", options->json, "Ids as a JSON array");
  verb->footer(
      "Needs neither MPI nor a GPU; every process that a launcher starts does its own. Examples:\n"
      "  grist tokenize --model MODEL --text \"Hello world\" --json\n"
      "  grist tokenize --model MODEL --ids 19556,905\n"
      "  cat part.txt | grist tokenize --model MODEL --file - | wc -w\n"
      "  grist tokenize --model MODEL --file texts/ --file chats.jsonl --output data.tokens");
  verb->callback(
      [options, &action, ids] { action.run_alone = [options, decode = ids->count() > 0] { run(*options, decode); }; });
}

}  // namespace grist::cli
