// grist: runs transformers over MPI ranks. One file per verb; this one parses, starts and ends.
#include "interrupt.hpp"
#include "launcher.hpp"
#include "runtime.hpp"
#include "texts.hpp"
#include "verbs.hpp"
#include "version.hpp"

#include <grist/core/edit_distance.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <format>
#include <iostream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace {

using grist::ExitCode;

/// ", did you mean --max-new-tokens?" for the option or verb that is nearest to a mistyped one; empty where none is
/// near.
std::string nearest(const CLI::App& app, const std::string& mistyped) {
  std::vector<std::string> names;
  for (const auto* sub : app.get_subcommands({})) names.push_back(sub->get_name());
  for (const auto* option : app.get_options())
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  const auto distance = [&](const std::string& name) { return grist::edit_distance(mistyped, name); };
  const auto best = std::ranges::min_element(names, {}, distance);
  if (best == names.end() || distance(*best) > mistyped.size() / 2) return {};
  return std::format(", did you mean {}?", *best);
}

/// Examples in the help keep their lines; older versions of CLI11 know nothing else.
template <class Formatter>
void keep_lines(Formatter& formatter) {
  if constexpr (requires { formatter.enable_footer_formatting(false); }) formatter.enable_footer_formatting(false);
}

/// Ends all ranks after this one has told why: others may be waiting for it.
[[noreturn]] void end_all(int code) {
  grist::cli::wait_until_heard();
  // Our line is said; MPI's own report of the abort would only repeat that something went wrong.
  if (std::freopen("/dev/null", "w", stderr) == nullptr) std::_Exit(code);
  grist::cli::abort_all(code);
}

/// Where a parse ended early: the help that was asked for, or one line on what was wrong.
int explain(const CLI::App& app, const CLI::ParseError& error, const std::vector<std::string>& words,
            const grist::cli::Action& action) {
  if (error.get_exit_code() == 0) return app.exit(error);
  const auto chosen = app.get_subcommands();
  const CLI::App& level = chosen.empty() ? app : *chosen.front();
  std::string text = error.what();
  const bool no_verb = chosen.empty();  // then the first word may be a mistyped one
  for (const auto& given : no_verb ? words : level.remaining()) {
    const std::string word = given.substr(0, given.find('='));
    if (!no_verb && !word.starts_with("--")) continue;
    const char* kind = word.starts_with("--") ? "option" : "command";
    text = std::format("unknown {} {}{}", kind, word, nearest(level, word));
    break;
  }
  std::replace(text.begin(), text.end(), '\n', ' ');
  // The ranks of one MPI job make the same mistake, and the first tells it; tasks that only share a launcher are ranks
  // of nothing, and speak for themselves: MPI would wait for others that never come.
  std::optional<grist::cli::Processes> processes;
  if (!no_verb && !action.alone.contains(&level) && grist::cli::launcher().size > 1) processes.emplace();
  if (processes && processes->rank() != 0) std::this_thread::sleep_for(std::chrono::milliseconds(300));
  grist::cli::tell(std::format("{} (see `grist {}{}--help`)", text, chosen.empty() ? "" : level.get_name(),
                               chosen.empty() ? "" : " "));
  const auto code = static_cast<int>(ExitCode::wrong_usage);
  if (processes && processes->size() > 1) end_all(code);
  return code;
}

/// What was printed has arrived: a full disk is not a success.
void check_stdout() {
  std::cout.flush();
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0 || !std::cout)
    throw grist::InternalError("stdout: not all could be written; is the disk full?");
}

/// One line for the program and one for each word, which all ranks must have alike; a model may lie elsewhere on each
/// node.
std::string command_of(const std::vector<std::string>& words) {
  std::string lines = std::format("grist {} ({})", grist::version, grist::commit);
  for (std::size_t i = 0; i < words.size(); ++i) {
    bool model = false;
    for (const std::string option : {"--model", "--draft-model"})
      model = model || words[i].starts_with(option + "=") || (i > 0 && words[i - 1] == option);
    lines += "\n" + (model ? std::string("the model") : words[i]);
  }
  return lines;
}

int run(const grist::cli::Action& action, const std::string& command) {
  if (action.run_alone) {
    try {
      action.run_alone();
      check_stdout();
      return 0;
    } catch (...) {
      return static_cast<int>(grist::cli::tell_current_exception());
    }
  }
  std::optional<grist::cli::Interrupt> interrupt;
  if (action.keeps_work) interrupt.emplace(grist::cli::ending_signals, SA_RESTART);
  std::optional<grist::cli::Runtime> runtime;
  try {
    runtime.emplace(action.threads);
    runtime->expect_same("the command line", command, ExitCode::wrong_usage);
    action.run(*runtime);
    check_stdout();
    return 0;
  } catch (const grist::cli::ToldError& error) {
    return static_cast<int>(error.code);  // all ranks leave together
  } catch (...) {
    // The other ranks may be waiting in a collective. Where all of them fail, the first one speaks for all.
    if (runtime && !runtime->root()) std::this_thread::sleep_for(std::chrono::milliseconds(300));
    const auto code = static_cast<int>(grist::cli::tell_current_exception());
    if (runtime && runtime->world().size() > 1) end_all(code);
    return code;
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("grist runs transformers on HPC machines: CPUs and GPUs, over MPI, no Python.\n"
               "Start it with mpirun or srun to use several ranks; --tp and --pp say how they\n"
               "share a model.",
               "grist");
  keep_lines(*app.get_formatter());
  app.set_version_flag("--version", std::format("grist {} ({})", grist::version, grist::commit));
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::simple);
  const std::vector<std::string> words(argv + 1, argv + argc);
  grist::cli::Action action;
  grist::cli::add_generate(app, action);
  grist::cli::add_chat(app, action);
  grist::cli::add_perplexity(app, action);
  grist::cli::add_evaluate(app, action);
  grist::cli::add_tokenize(app, action);
  grist::cli::add_init(app, action);
  grist::cli::add_train(app, action);
  grist::cli::add_convert(app, action);
  grist::cli::add_inspect(app, action);
  grist::cli::add_plot(app, action);
  grist::cli::add_vocabulary(app, action);
  grist::cli::add_bench(app, action, words);
  grist::cli::add_report(app, action);
  grist::cli::add_info(app, action, std::ranges::find(words, "--train") != words.end());
  app.footer(  // not one of the verbs
      "Begin with:\n"
      "  grist generate --model MODEL --prompt \"Once upon a time\"\n"
      "  grist chat --model MODEL\n"
      "  mpirun -n 4 grist generate --model MODEL --prompt Hi --tp 4\n"
      "  grist info --model MODEL --tp 4     what it would need of each rank\n"
      "  grist VERB --help                   all options of a verb\n"
      "MODEL is a Hugging Face folder or a GGUF file. Results go to stdout, errors and notes\n"
      "to stderr, one line each.\n\n"
      "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 bad input file, 4 out of memory,\n"
      "5 numerical failure, 75 stopped by a signal or the wall time: the same command continues\n"
      "(perplexity and evaluate begin anew).");
  try {
    app.parse(grist::cli::literal_words(words));
  } catch (const CLI::ParseError& error) {
    return explain(app, error, words, action);
  }
  return run(action, command_of(words));
}
