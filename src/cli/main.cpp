// grist: runs transformers over MPI ranks. One file per verb; this one parses, starts and ends.
#include "runtime.hpp"
#include "verbs.hpp"
#include "version.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <format>
#include <iostream>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace {

using grist::ExitCode;

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

/// ", did you mean --max-new-tokens?" for the option or verb that is nearest to a mistyped one; empty where none is near.
std::string nearest(const CLI::App& app, const std::string& mistyped) {
  std::vector<std::string> names;
  for (const auto* sub : app.get_subcommands({})) names.push_back(sub->get_name());
  for (const auto* option : app.get_options())
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  const auto distance = [&](const std::string& name) { return edit_distance(mistyped, name); };
  const auto best = std::ranges::min_element(names, {}, distance);
  if (best == names.end() || distance(*best) > mistyped.size() / 2) return {};
  return std::format(", did you mean {}?", *best);
}

/// Where a parse ended early: the help that was asked for, or one line on what was wrong.
int explain(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  const bool speaks = grist::cli::launcher_rank() == 0;
  if (error.get_exit_code() == 0) return speaks ? app.exit(error) : 0;
  if (!speaks) return static_cast<int>(ExitCode::wrong_usage);
  const auto chosen = app.get_subcommands();
  const CLI::App& level = chosen.empty() ? app : *chosen.front();
  std::string text = error.what();
  const bool no_verb = chosen.empty();  // then the first word may be a mistyped one
  if (no_verb || dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    for (int i = 1; i < argc; ++i) {
      const std::string word = std::string(argv[i]).substr(0, std::string(argv[i]).find('='));
      if (no_verb || (text.find(word) != std::string::npos && word.starts_with("--"))) {
        text = std::format("unknown {} {}{}", word.starts_with("--") ? "option" : "command", word, nearest(level, word));
        break;
      }
    }
  }
  std::replace(text.begin(), text.end(), '\n', ' ');
  grist::cli::tell(std::format("{} (see `grist {}{}--help`)", text, chosen.empty() ? "" : level.get_name(),
                               chosen.empty() ? "" : " "));
  return static_cast<int>(ExitCode::wrong_usage);
}

/// What was printed has arrived: a full disk is not a success.
void check_stdout() {
  std::cout.flush();
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0 || !std::cout)
    throw grist::InternalError("stdout: not all could be written; is the disk full?");
}

int run(const grist::cli::Action& action) {
  if (action.run_alone) {
    if (grist::cli::launcher_rank() != 0) return 0;
    try {
      action.run_alone();
      check_stdout();
      return 0;
    } catch (...) {
      return static_cast<int>(grist::cli::tell_current_exception());
    }
  }
  std::optional<grist::cli::Runtime> runtime;
  try {
    runtime.emplace(action.threads);
    action.run(*runtime);
    check_stdout();
    return 0;
  } catch (const grist::cli::ToldError& error) {
    return static_cast<int>(error.code);  // all ranks leave together
  } catch (...) {
    // The other ranks may be waiting in a collective. Where all of them fail, the first one speaks for all.
    if (runtime && !runtime->root()) std::this_thread::sleep_for(std::chrono::milliseconds(300));
    const auto code = static_cast<int>(grist::cli::tell_current_exception());
    if (runtime && runtime->world().size() > 1) {
      grist::cli::wait_until_heard();
      // Our line is said; MPI's own report of the abort would only repeat that something went wrong.
      if (std::freopen("/dev/null", "w", stderr) != nullptr) MPI_Abort(MPI_COMM_WORLD, code);
      std::_Exit(code);
    }
    return code;
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("grist runs transformers where HPC people are: on any machine's own mill, over MPI, without Python.\n"
               "Start it under mpirun or srun to use several ranks, with --tp and --pp to say how.");
  app.set_version_flag("--version", std::format("grist {} ({})", grist::version, grist::commit));
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::simple);
  app.footer("Exit codes: 0 done, 1 failed, 2 wrong usage, 3 bad input file, 4 out of memory, 5 numerical failure.");
  grist::cli::Action action;
  grist::cli::add_generate(app, action);
  grist::cli::add_chat(app, action);
  grist::cli::add_perplexity(app, action);
  grist::cli::add_tokenize(app, action);
  grist::cli::add_init(app, action);
  grist::cli::add_info(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return explain(app, error, argc, argv);
  }
  return run(action);
}
