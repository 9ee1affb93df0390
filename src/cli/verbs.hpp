// The verbs of the program. Each adds its subcommand and options, and when chosen leaves in `action` what to run.
#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <set>
#include <string>
#include <vector>

namespace grist::cli {

class Runtime;

struct Action {
  std::function<void(Runtime&)> run;  // over MPI and Kokkos
  std::function<void()> run_alone;    // without either: every process does it
  std::set<const CLI::App*> alone;    // the verbs that run so
  int threads = 0;                    // 0: choose
  bool keeps_work = false;            // where a signal comes, from the start on; exit code 75 (interrupt.hpp)
};

void add_generate(CLI::App& app, Action& action);
void add_chat(CLI::App& app, Action& action);
void add_perplexity(CLI::App& app, Action& action);
void add_evaluate(CLI::App& app, Action& action);
void add_tokenize(CLI::App& app, Action& action);
void add_init(CLI::App& app, Action& action);
/// `training`: takes the options of `grist train`, and tells what that would need.
void add_info(CLI::App& app, Action& action, bool training);
/// `words` of the command line are kept with each result.
void add_bench(CLI::App& app, Action& action, const std::vector<std::string>& words);
void add_report(CLI::App& app, Action& action);
void add_train(CLI::App& app, Action& action);
void add_convert(CLI::App& app, Action& action);
void add_inspect(CLI::App& app, Action& action);
void add_plot(CLI::App& app, Action& action);
void add_vocabulary(CLI::App& app, Action& action);

}  // namespace grist::cli
