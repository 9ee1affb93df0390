#include <grist/report/page.hpp>

#include <grist/core/si_prefix.hpp>
#include <grist/report/plots.hpp>
#include <grist/report/svg.hpp>

#include <algorithm>
#include <format>
#include <set>

namespace grist::report {
namespace {

constexpr const char* style = R"(body { font: 16px/1.45 system-ui, sans-serif; color: #222; background: #fff;
  margin: 0 auto; max-width: 46rem; padding: 0 1rem 2rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2rem }
svg { width: 100%; height: auto; display: block; margin: 0 0 1rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .85rem }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } .note { color: #555; font-size: .85rem }
@media print { body { max-width: none; font-size: 10pt; padding: 0 } .wide { overflow: visible }
  table { font-size: 7pt } th, td { white-space: normal; padding: .1rem .3rem }
  svg { max-width: 14cm; break-inside: avoid } h2 { break-after: avoid } tr { break-inside: avoid } })";

using Cells = std::vector<std::string>;

/// Cells from `numbers` on are numbers.
std::string table(const Cells& titles, const std::vector<Cells>& rows, std::size_t numbers) {
  const auto line = [&](const Cells& cells, const char* kind) {
    std::string text = "<tr>";
    for (std::size_t i = 0; i < cells.size(); ++i)
      text += std::format("<{0}{1}>{2}</{0}>", kind, i >= numbers ? " class=\"n\"" : "", escaped(cells[i]));
    return text + "</tr>\n";
  };
  std::string text = "<div class=\"wide\"><table>\n" + line(titles, "th");
  for (const Cells& row : rows) text += line(row, "td");
  return text + "</table></div>\n";
}

std::string paragraph(const std::string& words) { return "<p class=\"note\">" + escaped(words) + "</p>\n"; }

std::string heading(const char* words) { return std::format("<h2>{}</h2>\n", words); }

std::string percent(const std::optional<double>& share) { return share ? std::format("{:.1f} %", 100 * *share) : ""; }

/// What the rows say of machines and programs, each once.
std::string machines(const std::vector<Result>& results) {
  const auto text = [](const Result& result, const char* key) {
    const auto found = result.row.find(key);
    return found != result.row.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  const auto rate = [](const Result& result, const char* key, const char* unit) {
    const auto found = result.row.find(key);
    return found != result.row.end() && found->is_number() ? with_prefix(found->get<double>(), unit) : std::string();
  };
  std::vector<Cells> rows;
  for (const Result& result : results) {
    const std::string threads = result.threads > 0 ? std::format("{} x {}", result.ranks, result.threads)
                                                   : std::format("{}", result.ranks);
    const Cells row = {result.platform, result.application, text(result, "build_commit"), text(result, "backend"),
                       text(result, "compiler"), text(result, "mpi_version"), threads,
                       rate(result, "read_bandwidth", "B/s"), rate(result, "triad_bandwidth", "B/s"),
                       rate(result, "gemm_f32", "FLOP/s"), rate(result, "gemm_bf16", "FLOP/s"),
                       rate(result, "mpi_latency", "s"), rate(result, "mpi_bandwidth", "B/s"),
                       rate(result, "disk_write", "B/s"), rate(result, "disk_read", "B/s")};
    if (std::ranges::find(rows, row) == rows.end()) rows.push_back(row);
  }
  return heading("Machines") +
         table({"platform", "application", "commit", "backend", "compiler", "MPI", "ranks x threads", "read", "triad",
                "GEMM f32", "GEMM bf16", "MPI latency", "MPI bandwidth", "disk write", "disk read"},
               rows, 6);
}

std::string numbers(const std::vector<Result>& results) {
  std::vector<Cells> rows;
  for (const Result& result : results)
    rows.push_back({result.application, result.problem, result.platform, result.date,
                    std::format("{}", result.ranks), per_second(result.value, result.unit),
                    result.deviation > 0 ? "± " + per_second(result.deviation, result.unit) : "",
                    result.limit ? per_second(*result.limit, result.unit) + " " + result.limit_name : "",
                    percent(result.fraction())});
  return table({"application", "problem", "platform", "date", "ranks", "result", "deviation", "limit", "of it"}, rows,
               4);
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

std::string quoted(const std::string& text) {
  std::string all = "\"";
  for (const char c : text) all += c == '"' ? "\"\"" : std::string(1, c);
  return all + "\"";
}

}  // namespace

std::string page(const std::vector<Result>& results) {
  std::set<std::string> platforms, problems, applications;
  for (const Result& result : results) {
    platforms.insert(result.platform);
    problems.insert(result.problem);
    applications.insert(result.application);
  }
  std::string body = paragraph(std::format("{} results of {} application(s) for {} problem(s) on {} platform(s)",
                                           results.size(), applications.size(), problems.size(), platforms.size())) +
                     machines(results) + heading("Results") +
                     paragraph("Bars are parts of the limit, the dashed line; without limits, of the best result.");
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
      "date,fom,application,problem,platform,test,unit,ranks,threads,limit,limit_name,fraction,file\n";
  const auto number = [](const std::optional<double>& value) { return value ? std::format("{}", *value) : ""; };
  for (const Result& result : results)
    text += std::format("{},{},{},{},{},{},{},{},{},{},{},{},{}\n", quoted(result.date), result.value,
                        quoted(result.application), quoted(result.problem), quoted(result.platform),
                        quoted(result.test), quoted(result.unit), result.ranks, result.threads, number(result.limit),
                        quoted(result.limit_name), number(result.fraction()), quoted(result.file));
  return text;
}

}  // namespace grist::report
