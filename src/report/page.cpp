#include <grist/report/page.hpp>

#include <grist/core/csv.hpp>
#include <grist/core/si_prefix.hpp>
#include <grist/report/plots.hpp>
#include <grist/report/svg.hpp>

#include <algorithm>
#include <format>
#include <set>

namespace grist::report {
namespace {

constexpr const char* style = R"(@page { margin: 15mm }
body { font: 16px/1.45 system-ui, sans-serif; color: #222; background: #fff; overflow-wrap: anywhere;
  margin: 0 auto; max-width: 46rem; padding: 0 1rem 2rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2rem }
svg { width: 100%; height: auto; display: block } figure { margin: 0 0 1rem; max-width: 34rem }
figcaption { color: #555; font-size: .85rem }
.wide { overflow-x: auto; margin: 0 0 1rem } table { border-collapse: collapse; font-size: .85rem }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap }
.group th { padding-top: 1rem }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } .note { color: #555; font-size: .85rem }
@media print { body { max-width: none; font-size: 10pt; padding: 0; color: #000 }
  .wide { overflow: visible } table { font-size: 7pt; width: 100% } thead { display: table-header-group }
  th, td { white-space: normal; overflow-wrap: normal; padding: .1rem .3rem; border-bottom: 1px solid #000 }
  td.n { white-space: nowrap } td:last-child { white-space: nowrap }
  .pictures { columns: 2; column-gap: 8mm } figure, svg, tbody, tr { break-inside: avoid }
  .note, figcaption { color: #000 } h2, .note { break-after: avoid } .group th { padding-top: 2mm } })";

using Cells = std::vector<std::string>;

/// `numbers` cells from `first` on are numbers. A row of one cell is a heading of those below it.
std::string table(const Cells& titles, const std::vector<Cells>& rows, std::size_t first, std::size_t numbers) {
  const auto line = [&](const Cells& cells, const char* kind) {
    if (cells.size() == 1)
      return std::format("</tbody>\n<tbody><tr class=\"group\"><th colspan=\"{}\">{}</th></tr>\n", titles.size(),
                         escaped(cells[0]));
    std::string text = "<tr>";
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const bool number = i >= first && i < first + numbers;
      text += std::format("<{0}{1}>{2}</{0}>", kind, number ? " class=\"n\"" : "", escaped(cells[i]));
    }
    return text + "</tr>\n";
  };
  std::string text = "<div class=\"wide\"><table>\n<thead>" + line(titles, "th") + "</thead>\n<tbody>";
  for (const Cells& row : rows) text += line(row, "td");
  return text + "</tbody></table></div>\n";
}

std::string paragraph(const std::string& words) { return "<p class=\"note\">" + escaped(words) + "</p>\n"; }

/// On paper in two columns.
std::string pictures(const std::vector<std::string>& all) {
  std::string text = "<div class=\"pictures\">\n";
  for (const std::string& picture : all) text += "<figure>" + picture + "</figure>\n";
  return text + "</div>\n";
}

std::string heading(const char* words) { return std::format("<h2>{}</h2>\n", words); }

std::string percent(const std::optional<double>& share) { return share ? std::format("{:.1f} %", 100 * *share) : ""; }

/// What the rows say of programs, each once.
std::string programs(const std::vector<Result>& results) {
  std::vector<Cells> rows;
  for (const Result& result : results) {
    const auto either = [&](const char* key, const char* other) {
      return result.text(key).empty() ? result.text(other) : result.text(key);
    };
    const Cells row = {result.application, either("build_commit", "version"), either("backend", "settings"),
                       result.text("compiler"), result.text("mpi_version")};
    if (std::ranges::find(rows, row) == rows.end()) rows.push_back(row);
  }
  return heading("Programs") + table({"application", "version", "backend or settings", "compiler", "MPI"}, rows, 5, 0);
}

/// And of machines, by whose ranks and threads they were measured.
std::string machines(const std::vector<Result>& results) {
  constexpr std::pair<const char*, const char*> rates[] = {
      {"read_bandwidth", "B/s"}, {"triad_bandwidth", "B/s"}, {"gemm_f32", "FLOP/s"}, {"gemm_bf16", "FLOP/s"},
      {"gemm_int8", "FLOP/s"},   {"mpi_latency", "s"},       {"mpi_bandwidth", "B/s"}, {"disk_write", "B/s"},
      {"disk_read", "B/s"}};
  std::vector<Cells> rows;
  for (const Result& result : results) {
    if (result.number("read_bandwidth") == 0) continue;
    Cells row = {result.platform, extent_of(result)};
    for (const auto& [key, unit] : rates) {
      const double value = result.number(key);
      row.push_back(value > 0 ? with_prefix(value, unit) : "");
    }
    if (std::ranges::find(rows, row) == rows.end()) rows.push_back(row);
  }
  if (rows.empty()) return {};
  return heading("Machines") + table({"platform", "runs on", "read", "triad", "GEMM f32", "GEMM bf16", "GEMM int8",
                                      "MPI latency", "MPI bandwidth", "disk write", "disk read"},
                                     rows, 2, 9);
}

std::string numbers(const std::vector<Result>& results) {
  std::vector<Cells> rows;
  const auto labels = labels_of(results);
  for (std::size_t i = 0; i < results.size(); ++i) {
    const Result& result = results[i];
    const auto ratio = to_best_peer(results, result);
    if (i == 0 || results[i - 1].problem != result.problem) rows.push_back({result.problem});
    rows.push_back({labels[i], per_second(result.value, result.unit),
                    result.deviation > 0 ? "± " + per_second(result.deviation, result.unit) : "",
                    result.repetitions > 0 ? std::format("{}", result.repetitions) : "",
                    result.limit ? per_second(*result.limit, result.unit) + " " + result.limit_name : "",
                    percent(result.fraction()), ratio ? std::format("{:.2f}", *ratio) : "", result.platform,
                    extent_of(result), result.date});
  }
  return table({"application", "result", "deviation", "reps", "limit", "of it", "x peer", "platform", "runs on",
                "date"},
               rows, 1, 6);
}

std::string scaling(const std::vector<Result>& results) {
  const auto scalings = scaling_of(results);
  if (scalings.empty()) return {};
  std::vector<Cells> rows;
  const std::string* problem = nullptr;
  for (const Scaling& scaling : scalings) {
    if (problem == nullptr || *problem != scaling.problem) rows.push_back({scaling.problem});
    problem = &scaling.problem;
    for (const auto& [ranks, value, efficiency] : scaling.points)
      rows.push_back({scaling.application, std::format("{}", ranks), per_second(value, scaling.unit),
                      percent(efficiency), scaling.platform});
  }
  return heading("Scaling") +
         paragraph("Parallel efficiency: the result of each rank, divided by that on the fewest ranks.") +
         pictures({scaling_plot(scalings)}) +
         table({"application", "ranks", "result", "efficiency", "platform"}, rows, 1, 3);
}

std::string portability(const std::vector<Result>& results) {
  const auto all = portability_of(results);
  std::vector<Cells> rows;
  std::vector<std::vector<Portability>> problems;
  for (const Portability& one : all) {
    if (one.application_efficiency.size() < 2) continue;
    const auto found = std::ranges::find_if(
        problems, [&](const auto& problem) { return problem.front().problem == one.problem; });
    if (found == problems.end()) problems.push_back({one});
    else found->push_back(one);
  }
  if (problems.empty()) return {};
  for (const auto& problem : problems) {
    rows.push_back({problem.front().problem});
    for (const Portability& one : problem)
      rows.push_back({one.application, std::format("{}", one.application_efficiency.size()),
                      std::format("{:.3f}", one.architectural_metric), std::format("{:.3f}", one.application_metric)});
  }
  std::string text =
      heading("Performance portability") +
      paragraph("The harmonic mean of the efficiencies over all platforms, 0 where an application lacks a result on "
                "one of them (Pennycook, Sewall, Lee 2016). By limits: architectural efficiency, a part of the "
                "platform's limit. By peers: application efficiency, a part of the best result of any application "
                "there. Of each platform one number of ranks and threads counts, that which most applications ran.") +
      table({"application", "platforms", "by limits", "by peers"}, rows, 1, 3);
  std::vector<std::string> figures;
  for (const auto& problem : problems)
    figures.push_back(std::format("<figcaption>{}: {} efficiency on each application's platforms, best first; bars: "
                                  "portability</figcaption>\n{}",
                                  escaped(problem.front().problem),
                                  is_architectural(problem) ? "architectural" : "application", cascade(problem)));
  return text + pictures(figures);
}

}  // namespace

std::string page(const std::vector<Result>& unordered) {
  const auto results = side_by_side(unordered);
  std::set<std::string> platforms, problems, applications;
  for (const Result& result : results) {
    platforms.insert(result.platform);
    problems.insert(result.problem);
    applications.insert(result.application);
  }
  std::string body = paragraph(std::format("{} results of {} application(s) for {} problem(s) on {} platform(s)",
                                           results.size(), applications.size(), problems.size(), platforms.size())) +
                     programs(results) + machines(results) + heading("Results") +
                     paragraph("Bars are parts of the limit, the mark on them; without limits, of the best result. "
                               "x peer: the result divided by the best of other applications with as many ranks and "
                               "threads on the same platform.");
  body += pictures(bars_by_problem(results)) + numbers(results);
  if (const auto all = rooflines(results); !all.empty()) body += heading("Rooflines") + pictures(all);
  body += scaling(results) + portability(results);
  return std::format(
      "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>Benchmark report</title>\n"
      "<style>\n{}\n</style>\n</head>\n<body>\n<h1>Benchmark report</h1>\n{}</body>\n</html>\n",
      style, body);
}

std::string csv(const std::vector<Result>& results) {
  std::string text =
      "date,fom,application,problem,platform,test,unit,ranks,n_threads,stddev_ts,repetitions,limit,limit_name,fraction,"
      "best_peer_ratio,file\n";
  const auto number = [](const std::optional<double>& value) { return value ? std::format("{}", *value) : ""; };
  for (const Result& result : results)
    text += std::format("{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n", csv_quoted(result.date), result.value,
                        csv_quoted(result.application), csv_quoted(result.problem), csv_quoted(result.platform),
                        csv_quoted(result.test), csv_quoted(result.unit), result.ranks, result.threads,
                        result.deviation, result.repetitions, number(result.limit), csv_quoted(result.limit_name),
                        number(result.fraction()), number(to_best_peer(results, result)), csv_quoted(result.file));
  return text;
}

}  // namespace grist::report
