#include <grist/report/plots.hpp>

#include <grist/core/si_prefix.hpp>
#include <grist/report/svg.hpp>

#include <algorithm>
#include <format>

namespace grist::report {
namespace {

constexpr double line_height = 16, place_height = 20, bar_height = 32;

std::vector<std::string> problems_of(const std::vector<Result>& results) {
  std::vector<std::string> problems;
  for (const Result& result : results)
    if (std::ranges::find(problems, result.problem) == problems.end()) problems.push_back(result.problem);
  return problems;
}

/// Comparable ones one after the other.
std::vector<Result> of_problem(const std::vector<Result>& results, const std::string& problem) {
  std::vector<Result> chosen;
  for (const Result& result : results)
    if (result.problem == problem) chosen.push_back(result);
  return side_by_side(chosen);
}

std::size_t place_of(std::vector<std::string>& names, const std::string& name) {
  const auto found = std::ranges::find(names, name);
  const auto place = static_cast<std::size_t>(found - names.begin());
  if (found == names.end()) names.push_back(name);
  return place;
}

std::vector<std::string> title_of(const std::vector<Result>& group) {
  return wrapped(group.front().problem, bold_characters);
}

/// Whether results[i] is the first one of those that are comparable.
bool begins_place(const std::vector<Result>& group, std::size_t i) {
  return i == 0 || !comparable(group[i - 1], group[i]);
}

double height_of(const std::vector<Result>& group) {
  double height = line_height * static_cast<double>(title_of(group).size()) +
                  bar_height * static_cast<double>(group.size()) + 2 * picture_margin;
  for (std::size_t i = 0; i < group.size(); ++i) height += begins_place(group, i) ? place_height : 0;
  return height;
}

std::string value_of(const std::vector<Result>& group, const Result& result) {
  std::string text = per_second(result.value, result.unit);
  if (result.limit)
    text += std::format(", {:.0f} % of {}", 100 * *result.fraction(),
                        result.limit_name.empty() ? "limit" : result.limit_name);
  if (const auto ratio = to_best_peer(group, result)) text += std::format(", {:.2f} x peer", *ratio);
  return text;
}

/// Of one problem, from y on. The colour is the application's.
void draw_bars(Svg& svg, double y, const std::vector<Result>& group, std::vector<std::string>& applications) {
  const bool limited = std::ranges::all_of(group, [](const Result& result) { return result.limit.has_value(); });
  double best = 0, most = limited ? 1 : 0;
  for (const Result& result : group) best = std::max(best, result.value);
  const auto share = [&](const Result& result) {
    return limited ? *result.fraction() : best > 0 ? result.value / best : 0;
  };
  for (const Result& result : group) most = std::max(most, share(result));
  if (most == 0) most = 1;
  const double scale = (picture_width - 2 * picture_margin) / most;
  double at = y + picture_margin / 2;
  for (const std::string& line : title_of(group)) {
    svg.text(picture_margin, at + 12, line, Anchor::begin, true);
    at += line_height;
  }
  const auto labels = labels_of(group);
  for (std::size_t i = 0; i < group.size(); ++i) {
    const Result& result = group[i];
    if (begins_place(group, i)) {
      svg.text(picture_margin, at + 13,
               shortened(std::format("{}, {}", result.platform, extent_of(result)), line_characters));
      at += place_height;
    }
    const std::string value = value_of(group, result);
    svg.text(picture_margin, at + 11,
             shortened(labels[i], std::max<std::size_t>(line_characters, value.size() + 12) - value.size()));
    svg.text(picture_width - picture_margin, at + 11, value, Anchor::end);
    svg.rectangle(picture_margin, at + 15, scale * most, 10, "#F0F0F0");
    svg.rectangle(picture_margin, at + 15, scale * share(result), 10,
                  colour(place_of(applications, result.application)));
    if (limited) svg.line(picture_margin + scale, at + 13, picture_margin + scale, at + 27, "#222222", 2);
    at += bar_height;
  }
}

}  // namespace

std::string per_second(double value, const std::string& unit) {
  if (unit == "tokens") return std::format("{:.{}f} t/s", value, value < 100 ? 2 : 0);
  return with_prefix(value, unit == "bytes" ? "B/s" : unit == "FLOP" ? "FLOP/s" : (unit + "/s").c_str());
}

std::string bars(const std::vector<Result>& results) {
  double height = 0;
  const auto problems = problems_of(results);
  for (const auto& problem : problems) height += height_of(of_problem(results, problem));
  Svg svg(picture_width, height);
  std::vector<std::string> applications;
  double y = 0;
  for (const auto& problem : problems) {
    const auto group = of_problem(results, problem);
    draw_bars(svg, y, group, applications);
    y += height_of(group);
  }
  return svg.element("Results as parts of their limits");
}

std::vector<std::string> bars_by_problem(const std::vector<Result>& results) {
  std::vector<std::string> pictures, applications;
  for (const auto& problem : problems_of(results)) {
    const auto group = of_problem(results, problem);
    Svg svg(picture_width, height_of(group));
    draw_bars(svg, 0, group, applications);
    pictures.push_back(svg.element(problem));
  }
  return pictures;
}

}  // namespace grist::report
