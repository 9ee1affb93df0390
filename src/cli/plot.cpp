// grist plot: the losses of runs in one picture, drawn by gnuplot.
#include "verbs.hpp"

#include <grist/core/errors.hpp>
#include <grist/train/metrics.hpp>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <format>
#include <fstream>
#include <set>
#include <string>
#include <vector>

namespace grist::cli {
namespace {

namespace fs = std::filesystem;
using Points = std::vector<std::pair<Index, double>>;

struct PlotOptions {
  std::vector<std::string> files;
  std::string output;
};

/// Colours that the colour-blind tell apart too (Okabe and Ito 2008); from the first again where there are more runs.
constexpr const char* colours[] = {"0072B2", "D55E00", "009E73", "CC79A7", "E69F00", "56B4E9", "000000"};
constexpr std::size_t most_points = 2000;  // of a line: a picture has no more columns

/// Every so many points, the last one too.
Points thinned(const Points& points) {
  const std::size_t stride = (points.size() + most_points - 1) / most_points;
  Points kept;
  for (std::size_t i = 0; i < points.size(); ++i)
    if (i % stride == 0 || i + 1 == points.size()) kept.push_back(points[i]);
  return kept;
}

/// Means over a fiftieth of the run, around each point; over less at its begin, where a loss falls fast.
Points smoothed(const Points& points) {
  const auto reach = points.size() / 100;
  std::vector<double> sums{0};
  for (const auto& [step, loss] : points) sums.push_back(sums.back() + loss);
  Points means;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const std::size_t side = std::min(reach, i), begin = i - side, end = std::min(points.size(), i + side + 1);
    means.emplace_back(points[i].first, (sums[end] - sums[begin]) / static_cast<double>(end - begin));
  }
  return means;
}

std::string block(const std::string& name, const Points& points) {
  std::string text = std::format("${} << END\n", name);
  for (const auto& [step, loss] : thinned(points)) text += std::format("{} {:.6g}\n", step, loss);
  return text + "END\n";
}

/// In gnuplot's quotes.
std::string quoted(const std::string& text) {
  std::string all = "'";
  for (const char c : text) all += c == '\'' ? "''" : std::string(1, c);
  return all + "'";
}

/// Names of files, without their folders where these tell nothing.
std::vector<std::string> titles_of(const std::vector<std::string>& files) {
  std::vector<std::string> titles;
  for (const fs::path file : files) titles.push_back(file.stem().string());
  if (std::set(titles.begin(), titles.end()).size() < titles.size()) return files;
  return titles;
}

constexpr const char* look = R"(set border 3 lw 1 lc rgb '#666666'
set tics nomirror out scale 0.6 tc rgb '#333333'
set grid lt 1 lw 1 lc rgb '#E4E4E4'
set key top right Left reverse samplen 2.5 spacing 1.35 width 1 noenhanced tc rgb '#333333'
set xlabel 'step' tc rgb '#333333'
set ylabel 'loss (nats per token)' tc rgb '#333333'
set format x '%.0f'
set xrange [0:*]
set offsets 0, 0, graph 0.04, graph 0.02
)";

std::string script_of(const PlotOptions& options, const fs::path& picture, const std::string& terminal) {
  const auto titles = titles_of(options.files);
  std::string data, curves;
  const auto curve = [&](const std::string& name, const std::string& line, const std::string& title) {
    curves += std::format("{}${} using 1:2 with {} {}", curves.empty() ? "plot " : ", \\\n     ", name, line,
                          title.empty() ? "notitle" : "title " + quoted(title));
  };
  for (std::size_t i = 0; i < options.files.size(); ++i) {
    const auto [loss, held_out] = train::read_losses(options.files[i]);
    if (loss.empty() && held_out.empty()) throw InputError("{}: holds no losses", options.files[i]);
    const std::string colour = colours[i % std::size(colours)];
    const bool noisy = loss.size() >= 100;
    if (noisy) {
      data += block(std::format("raw{}", i), loss);
      curve(std::format("raw{}", i), std::format("lines lw 1 lc rgb '#A8{}'", colour), "");
    }
    if (!loss.empty()) {
      data += block(std::format("loss{}", i), noisy ? smoothed(loss) : loss);
      curve(std::format("loss{}", i), std::format("lines lw 2.5 lc rgb '#{}'", colour), titles[i]);
    }
    if (!held_out.empty()) {
      data += block(std::format("held{}", i), held_out);
      curve(std::format("held{}", i),
            std::format("linespoints lw 1.5 dt (8,5) pt 7 ps 0.55 lc rgb '#{}'", colour), titles[i] + ", held-out");
    }
  }
  return std::format("{}set output {}\n{}{}{}\n", terminal, quoted(picture.string()), look, data, curves);
}

std::string terminal_of(const fs::path& output) {
  const auto ending = output.extension();
  if (ending == ".svg") return "set terminal svg size 900,540 dynamic font 'Helvetica,15' background '#FFFFFF'\n";
  if (ending == ".png") return "set terminal pngcairo size 1800,1080 fontscale 1.9 linewidth 2 background '#FFFFFF'\n";
  if (ending == ".pdf") return "set terminal pdfcairo size 18cm,10.8cm fontscale 0.8\n";
  throw UsageError("--output {}: expected a name that ends in .svg, .png or .pdf", output.string());
}

/// A file beside the picture, gone with this object.
class Scratch {
public:
  explicit Scratch(fs::path path) : path_(std::move(path)) {}
  ~Scratch() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  [[nodiscard]] const fs::path& path() const { return path_; }

private:
  fs::path path_;
};

/// Runs `gnuplot SCRIPT` and gives what it said, in one line; throws where it failed.
void run_gnuplot(const fs::path& script, const fs::path& said) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, said.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  std::string program = "gnuplot", file = script.string();
  char* words[] = {program.data(), file.data(), nullptr};
  pid_t child = 0;
  const int error = posix_spawnp(&child, words[0], &actions, nullptr, words, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT)
    throw UsageError("gnuplot is not in PATH: install it (gnuplot-nox in Debian), or load its module");
  if (error != 0) throw InternalError("gnuplot cannot be started: {}", std::strerror(error));
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  std::ifstream in(said);
  std::string line, last;
  while (std::getline(in, line))
    if (line.find_first_not_of(" \t^") != std::string::npos) last = line;
  throw InternalError("gnuplot failed: {}", last.empty() ? "it says nothing" : last);
}

void run(const PlotOptions& options) {
  const fs::path output = options.output;
  const std::string terminal = terminal_of(output);
  const Scratch picture(options.output + ".part"), script(options.output + ".gnuplot"), said(options.output + ".log");
  const std::string text = script_of(options, picture.path(), terminal);
  std::ofstream out(script.path());
  if (!(out << text) || !out.flush())
    throw InputError("{}: cannot be written: {}", script.path().string(), std::strerror(errno));
  run_gnuplot(script.path(), said.path());
  std::error_code error;
  fs::rename(picture.path(), output, error);
  if (error) throw InputError("{}: cannot be written: {}", output.string(), error.message());
}

}  // namespace

void add_plot(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("plot", "Draw the losses of training runs: their metrics files in one picture");
  action.alone.insert(verb);
  const auto options = std::make_shared<PlotOptions>();
  verb->add_option("file", options->files, "Metrics of `grist train --metrics`, a curve for each")
      ->required()
      ->check(CLI::ExistingFile)
      ->type_name("FILE");
  verb->add_option("-o,--output", options->output, "Picture to write: .svg, .png or .pdf")
      ->required()
      ->type_name("FILE");
  verb->footer("Wants gnuplot in PATH. Example:\n  grist plot run/a.jsonl run/b.jsonl -o loss.svg");
  verb->callback([options, &action] { action.run_alone = [options] { run(*options); }; });
}

}  // namespace grist::cli
