// grist report: results of several runs, machines and programs in one page.
#include "output_file.hpp"
#include "verbs.hpp"

#include <grist/core/errors.hpp>
#include <grist/report/page.hpp>
#include <grist/report/plots.hpp>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

namespace grist::cli {
namespace {

namespace fs = std::filesystem;

struct ReportOptions {
  std::vector<std::string> files;
  std::string output;
};

void run(const ReportOptions& options) {
  const fs::path output = options.output;
  const auto ending = output.extension();
  std::string (*write)(const std::vector<report::Result>&) = ending == ".html"  ? report::page
                                                             : ending == ".svg" ? report::bars
                                                             : ending == ".csv" ? report::csv
                                                                                : nullptr;
  if (write == nullptr)
    throw UsageError("--output {}: expected a name that ends in .html, .svg or .csv", output.string());
  expect_no_input(options.output, "--output", options.files);
  const std::string text = write(report::read_results({options.files.begin(), options.files.end()}));
  std::ofstream out(output, std::ios::binary);
  if (!(out << text) || !out.flush())
    throw InputError("{}: cannot be written: {}", output.string(), std::strerror(errno));
}

}  // namespace

void add_report(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("report", "Make a page of the results of `grist bench`, of several files");
  action.alone.insert(verb);
  const auto options = std::make_shared<ReportOptions>();
  verb->add_option("file", options->files, "Results: .json, .jsonl or .csv")
      ->required()
      ->check(CLI::ExistingFile)
      ->type_name("FILE");
  verb->add_option("-o,--output", options->output, "What to write: .html, .svg (the bars) or .csv")
      ->required()
      ->type_name("FILE");
  verb->footer("Rows of other programs that have application, problem, platform and fom are shown beside.\n"
               "  grist bench --model MODEL -o jsonl > here.jsonl\n"
               "  grist report here.jsonl there.jsonl -o report.html");
  verb->callback([options, &action] { action.run_alone = [options] { run(*options); }; });
}

}  // namespace grist::cli
