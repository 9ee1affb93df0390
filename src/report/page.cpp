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
svg { width: 100%; height: auto; display: block; margin: 0 0 1rem }
.wide { overflow-x: auto; margin: 0 0 1rem } table { border-collapse: collapse; font-size: .85rem }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } .note { color: #555; font-size: .85rem }
@media print { body { max-width: none; font-size: 10pt; padding: 0; color: #000 } .note { color: #000 }
  .wide { overflow: visible } table { font-size: 7pt; width: 100% } thead { display: table-header-group }
  th, td { white-space: normal; overflow-wrap: normal; padding: .1rem .3rem; border-bottom: 1px solid #000 }
  td.n { white-space: nowrap } svg { max-width: 14cm; break-inside: avoid } tr { break-inside: avoid }
  h2, .note { break-after: avoid } })";

using Cells = std::vector<std::string>;

/// Cells from `numbers` on are numbers.
std::string table(const Cells& titles, const std::vector<Cells>& rows, std::size_t numbers) {
  const auto line = [&](const Cells& cells, const char* kind) {
    std::string text = "<tr>";
    for (std::size_t i = 0; i < cells.size(); ++i)
      text += std::format("<{0}{1}>{2}</{0}>", kind, i >= numbers ? " class=\"n\"" : "", escaped(cells[i]));
    return text + "</tr>\n";
  };
  std::string text = "<div class=\"wide\"><table>\n<thead>" + line(titles, "th") + "</thead>\n<tbody>";
  for (const Cells& row : rows) text += line(row, "td");
  return text + "</tbody></table></div>\n";
}

std::string paragraph(const std::string& words) { return "<p class=\"note\">" + escaped(words) + "</p>\n"; }

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
  return heading("Programs") + table({"application", "version", "backend or settings", "compiler", "MPI"}, rows, 5);
}

/// And of machines, by whose ranks and threads they were measured.
std::string machines(const std::vector<Result>& results) {
  constexpr std::pair<const char*, const char*> rates[] = {
      {"read_bandwidth", "B/s"}, {"triad_bandwidth", "B/s"}, {"gemm_f32", "FLOP/s"}, {"gemm_bf16", "FLOP/s"},
      {"mpi_latency", "s"},      {"mpi_bandwidth", "B/s"},   {"disk_write", "B/s"},  {"disk_read", "B/s"}};
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
  return heading("Machines") + table({"platform", "runs on", "read", "triad", "GEMM f32", "GEMM bf16", "MPI latency",
                                      "MPI bandwidth", "disk write", "disk read"},
                                     rows, 2);
}

std::string numbers(const std::vector<Result>& results) {
  std::vector<Cells> rows;
  const auto labels = labels_of(results);
  for (std::size_t i = 0; i < results.size(); ++i) {
    const Result& result = results[i];
    const auto ratio = to_best_peer(results, result);
    rows.push_back({result.problem, labels[i], result.platform, extent_of(result), result.date,
                    per_second(result.value, result.unit),
                    result.deviation > 0 ? "± " + per_second(result.deviation, result.unit) : "",
                    result.repetitions > 0 ? std::format("{}", result.repetitions) : "",
                    result.limit ? per_second(*result.limit, result.unit) + " " + result.limit_name : "",
                    percent(result.fraction()), ratio ? std::format("{:.2f}", *ratio) : ""});
  }
  return table({"problem", "application", "platform", "runs on", "date", "result", "deviation", "reps", "limit",
                "of it", "x best peer"},
               rows, 5);
}

std::string scaling(const std::vector<Result>& results) {
  const auto scalings = scaling_of(results);
  if (scalings.empty()) return {};
  std::vector<Cells> rows;
  for (const Scaling& scaling : scalings)
    for (const auto& [ranks, value, efficiency] : scaling.points)
      rows.push_back({scaling.application, scaling.problem, scaling.platform, std::format("{}", ranks),
                      per_second(value, scaling.unit), percent(efficiency)});
  return heading("Scaling") +
         paragraph("Parallel efficiency: the result of each rank, divided by that on the fewest ranks.") +
         scaling_plot(scalings) +
         table({"application", "problem", "platform", "ranks", "result", "efficiency"}, rows, 3);
}

std::string portability(const std::vector<Result>& results) {
  const auto all = portability_of(results);
  std::vector<Cells> rows;
  std::vector<std::vector<Portability>> problems;
  for (const Portability& one : all) {
    if (one.application_efficiency.size() < 2) continue;
    rows.push_back({one.application, one.problem, std::format("{}", one.application_efficiency.size()),
                    std::format("{:.3f}", one.architectural_metric), std::format("{:.3f}", one.application_metric)});
    const auto found = std::ranges::find_if(
        problems, [&](const auto& problem) { return problem.front().problem == one.problem; });
    if (found == problems.end()) problems.push_back({one});
    else found->push_back(one);
  }
  if (rows.empty()) return {};
  std::string text =
      heading("Performance portability") +
      paragraph("The harmonic mean of the efficiencies over all platforms, 0 where an application lacks a result on "
                "one of them (Pennycook, Sewall, Lee 2016). Architectural efficiency is a part of the platform's "
                "limit, application efficiency a part of the best result of any application there.") +
      table({"application", "problem", "platforms", "architectural", "application"}, rows, 2);
  for (const auto& problem : problems) {
    text += paragraph(std::format("{}: {} efficiency on each application's platforms, best first; bars: portability",
                                  problem.front().problem,
                                  is_architectural(problem) ? "architectural" : "application"));
    text += cascade(problem);
  }
  return text;
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
                     paragraph("Bars are parts of the limit, the dashed line; without limits, of the best result. "
                               "Peers are other applications with as many ranks and threads on the same platform.");
  for (const std::string& picture : bars_by_problem(results)) body += picture;
  body += numbers(results);
  if (const auto pictures = rooflines(results); !pictures.empty()) {
    body += heading("Rooflines");
    for (const std::string& picture : pictures) body += picture;
  }
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
