#include <grist/report/plots.hpp>

#include <grist/core/si_prefix.hpp>
#include <grist/report/svg.hpp>

#include <algorithm>
#include <cmath>
#include <format>

namespace grist::report {
namespace {

constexpr double width = 460, margin = 8;
constexpr const char* grey = "#CCCCCC";
constexpr const char* dark = "#666666";

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

/// At most so many characters of UTF-8; "..." stands for the rest.
std::string shortened(const std::string& text, std::size_t most) {
  std::size_t characters = 0, cut = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if ((text[at] & 0xC0) == 0x80) continue;
    if (characters == most - 3) cut = at;
    if (++characters > most) return text.substr(0, cut) + "...";
  }
  return text;
}
constexpr std::size_t line_characters = 70;  // that the width has room for

constexpr double title_height = 24, place_height = 20, bar_height = 32;

/// Whether results[i] is the first one of those that are comparable.
bool begins_place(const std::vector<Result>& group, std::size_t i) {
  return i == 0 || !comparable(group[i - 1], group[i]);
}

double height_of(const std::vector<Result>& group) {
  double height = title_height + bar_height * static_cast<double>(group.size()) + margin;
  for (std::size_t i = 0; i < group.size(); ++i) height += begins_place(group, i) ? place_height : 0;
  return height;
}

/// Of one problem, from y on. The colour is the application's.
void draw_bars(Svg& svg, double y, const std::vector<Result>& group, std::vector<std::string>& applications) {
  const bool limited = std::ranges::all_of(group, [](const Result& result) { return result.limit.has_value(); });
  double best = 0, most = limited ? 1 : 0;
  for (const Result& result : group) best = std::max(best, result.value);
  const auto share = [&](const Result& result) { return limited ? *result.fraction() : result.value / best; };
  for (const Result& result : group) most = std::max(most, share(result));
  const double scale = (width - 2 * margin) / most;
  svg.text(margin, y + 16, shortened(group.front().problem, line_characters - 6), Anchor::begin, true);
  double at = y + title_height;
  const auto labels = labels_of(group);
  for (std::size_t i = 0; i < group.size(); ++i) {
    const Result& result = group[i];
    if (begins_place(group, i)) {
      const std::string extent = extent_of(result);
      svg.text(margin, at + 11, shortened(extent.empty() ? result.platform : result.platform + ", " + extent,
                                          line_characters));
      at += place_height;
    }
    const auto ratio = to_best_peer(group, result);
    const std::string peer = ratio ? std::format(", {:.2f} x best peer", *ratio) : "";
    const std::string percent =
        result.limit ? std::format(", {:.0f} % of {}", 100 * *result.fraction(),
                                   result.limit_name.empty() ? "limit" : result.limit_name)
                     : "";
    const std::string value = per_second(result.value, result.unit) + percent + peer;
    svg.text(margin, at + 11,
             shortened(labels[i], std::max<std::size_t>(line_characters, value.size() + 12) - value.size()));
    svg.text(width - margin, at + 11, value, Anchor::end);
    svg.rectangle(margin, at + 15, scale * most, 10, "#F0F0F0");
    svg.rectangle(margin, at + 15, scale * share(result), 10, colour(place_of(applications, result.application)));
    at += bar_height;
  }
  if (limited) svg.line(margin + scale, y + title_height, margin + scale, at, dark, 1, true);
}

/// A frame with a vertical axis and ticks; linear in what it is given.
struct Frame {
  double left = 56, top = 12, right = width - 24, bottom = 232;
  double x_from, x_to, y_from, y_to;

  [[nodiscard]] double x(double value) const { return left + (value - x_from) / (x_to - x_from) * (right - left); }
  [[nodiscard]] double y(double value) const { return bottom - (value - y_from) / (y_to - y_from) * (bottom - top); }
  void x_tick(Svg& svg, double at, const std::string& name) const {
    svg.line(x(at), top, x(at), bottom, grey);
    svg.text(x(at), bottom + 14, name, Anchor::middle);
  }
  void y_tick(Svg& svg, double at, const std::string& name) const {
    svg.line(left, y(at), right, y(at), grey);
    svg.text(left - 4, y(at) + 4, name, Anchor::end);
  }
  void percent_ticks(Svg& svg) const {
    for (double share = 0; share <= y_to + 1e-9; share += 0.25)
      y_tick(svg, share, std::format("{:.0f} %", 100 * share));
  }
};

struct Roofs {
  double read = 0;
  std::vector<std::pair<std::string, double>> gemm;  // by type
};

Roofs roofs_of(const std::vector<Result>& group) {
  Roofs roofs;
  double f32 = 0, bf16 = 0;
  for (const Result& result : group) {
    roofs.read = std::max(roofs.read, result.number("read_bandwidth"));
    f32 = std::max(f32, result.number("gemm_f32"));
    bf16 = std::max(bf16, result.number("gemm_bf16"));
  }
  for (const auto& [name, value] : {std::pair("f32", f32), std::pair("bf16", bf16)})
    if (value > 0) roofs.gemm.emplace_back(name, value);
  return roofs;
}

double intensity(const Result& result) { return result.flops / result.bytes; }
double speed(const Result& result) { return result.flops / result.seconds; }

std::string roofline(const std::vector<Result>& points, const Roofs& roofs) {
  double least_x = 1e300, most_x = 0, least_y = 1e300, most_y = 0;
  const auto hold = [&](double x, double y) {
    least_x = std::min(least_x, x), most_x = std::max(most_x, x);
    least_y = std::min(least_y, y), most_y = std::max(most_y, y);
  };
  for (const Result& point : points) hold(intensity(point), speed(point));
  for (const auto& [name, gemm] : roofs.gemm) hold(gemm / roofs.read, gemm);
  const Frame frame{.x_from = std::floor(std::log10(least_x)), .x_to = std::floor(std::log10(most_x)) + 1,
                    .y_from = std::floor(std::log10(least_y)), .y_to = std::floor(std::log10(most_y)) + 1};
  Svg svg(width, 284 + 16 * static_cast<double>(points.size()));
  for (double at = frame.x_from; at <= frame.x_to; ++at) frame.x_tick(svg, at, std::format("{:g}", std::pow(10, at)));
  for (double at = frame.y_from; at <= frame.y_to; ++at) frame.y_tick(svg, at, with_prefix(std::pow(10, at), ""));
  for (const auto& [name, gemm] : roofs.gemm) {
    const double knee = std::log10(gemm / roofs.read);
    const double begin = std::max(frame.x_from, frame.y_from - std::log10(roofs.read));
    svg.polyline({{frame.x(begin), frame.y(begin + std::log10(roofs.read))},
                  {frame.x(knee), frame.y(std::log10(gemm))},
                  {frame.x(frame.x_to), frame.y(std::log10(gemm))}},
                 dark);
    svg.text(frame.right - 2, frame.y(std::log10(gemm)) - 4,
             std::format("gemm {} {}", name, with_prefix(gemm, "FLOP/s")), Anchor::end);
  }
  svg.text(frame.left, 264, std::format("FLOP/s over FLOP per byte; slope: read {}", with_prefix(roofs.read, "B/s")));
  double at = 284;
  for (std::size_t i = 0; i < points.size(); ++i, at += 16) {
    const double x = frame.x(std::log10(intensity(points[i]))), y = frame.y(std::log10(speed(points[i])));
    svg.circle(x, y, 4, colour(i));
    svg.text(x + 6, y + 4, std::format("{}", i + 1));
    const std::string numbers =
        std::format("{}, {:.3g} FLOP per byte", with_prefix(speed(points[i]), "FLOP/s"), intensity(points[i]));
    svg.text(margin, at, shortened(std::format("{}  {}: {}, {}", i + 1, numbers, points[i].application,
                                               points[i].problem), line_characters));
  }
  return svg.element("Roofline of " + points.front().platform);
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
  Svg svg(width, height);
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
    Svg svg(width, height_of(group));
    draw_bars(svg, 0, group, applications);
    pictures.push_back(svg.element(problem));
  }
  return pictures;
}

std::vector<std::string> rooflines(const std::vector<Result>& results) {
  std::vector<std::pair<std::string, std::vector<Result>>> groups;
  for (const Result& result : results) {
    const std::string key = std::format("{} {}", result.ranks, result.platform);
    auto found = std::ranges::find(groups, key, &std::pair<std::string, std::vector<Result>>::first);
    if (found == groups.end()) found = groups.insert(groups.end(), {key, {}});
    found->second.push_back(result);
  }
  std::vector<std::string> pictures;
  for (const auto& [key, group] : groups) {
    const Roofs roofs = roofs_of(group);
    std::vector<Result> points;
    for (const Result& result : group)
      if (result.flops > 0 && result.bytes > 0 && result.seconds > 0) points.push_back(result);
    if (!points.empty() && roofs.read > 0 && !roofs.gemm.empty()) pictures.push_back(roofline(points, roofs));
  }
  return pictures;
}

std::string scaling_plot(const std::vector<Scaling>& scalings) {
  if (scalings.empty()) return {};
  std::vector<int> ranks;
  double most = 1;
  for (const Scaling& scaling : scalings) {
    for (const ScalingPoint& point : scaling.points) {
      ranks.push_back(point.ranks);
      most = std::max(most, point.efficiency);
    }
  }
  std::ranges::sort(ranks);
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  const Frame frame{.x_from = std::log2(ranks.front()), .x_to = std::log2(ranks.back()), .y_from = 0,
                    .y_to = std::ceil(4 * most) / 4};
  Svg svg(width, 270 + 16 * static_cast<double>(scalings.size()));
  frame.percent_ticks(svg);
  for (const int count : ranks) frame.x_tick(svg, std::log2(count), std::format("{}", count));
  svg.text((frame.left + frame.right) / 2, frame.bottom + 28, "ranks", Anchor::middle);
  double at = 278;
  for (std::size_t i = 0; i < scalings.size(); ++i, at += 16) {
    std::vector<std::pair<double, double>> line;
    for (const ScalingPoint& point : scalings[i].points) {
      line.emplace_back(frame.x(std::log2(point.ranks)), frame.y(point.efficiency));
      svg.circle(line.back().first, line.back().second, 4, colour(i));
    }
    svg.polyline(line, colour(i));
    svg.rectangle(margin, at - 9, 10, 10, colour(i));
    svg.text(margin + 16, at, shortened(std::format("{}, {}, {}", scalings[i].application, scalings[i].problem,
                                                    scalings[i].platform), line_characters - 3));
  }
  return svg.element("Parallel efficiency over ranks");
}

bool is_architectural(const std::vector<Portability>& all) {
  return std::ranges::all_of(all, [](const Portability& one) {
    return std::ranges::all_of(one.application_efficiency, [&](const auto& known) {
      return !known.second || one.architectural_efficiency.at(known.first).has_value();
    });
  });
}

std::string cascade(const std::vector<Portability>& all) {
  const bool architectural = is_architectural(all);
  std::vector<std::string> platforms;
  for (const auto& [platform, efficiency] : all.front().application_efficiency) platforms.push_back(platform);
  const auto count = static_cast<double>(platforms.size()), rows = static_cast<double>(all.size());
  Frame frame{.right = 330, .x_from = 0.5, .x_to = count + 0.5, .y_from = 0, .y_to = 1};
  const auto efficiencies = [&](const Portability& one) {
    std::vector<std::pair<double, std::size_t>> sorted;  // with the platform's number
    const auto& values = architectural ? one.architectural_efficiency : one.application_efficiency;
    for (std::size_t i = 0; i < platforms.size(); ++i)
      if (const auto& value = values.at(platforms[i])) sorted.emplace_back(*value, i);
    std::ranges::sort(sorted, std::greater());
    if (!sorted.empty()) frame.y_to = std::max(frame.y_to, std::ceil(4 * sorted.front().first) / 4);
    return sorted;
  };
  std::vector<std::vector<std::pair<double, std::size_t>>> lines;
  for (const Portability& one : all) lines.push_back(efficiencies(one));
  Svg svg(width, 262 + 18 * rows + 16 * count + margin);
  frame.percent_ticks(svg);
  svg.text((frame.right + width) / 2, frame.bottom + 14, "portability", Anchor::middle);
  const double slot = (width - margin - frame.right - 16) / rows;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const double row = 254 + 18 * static_cast<double>(i);
    std::vector<std::pair<double, double>> line;
    for (std::size_t place = 0; place < lines[i].size(); ++place) {
      const auto& [efficiency, platform] = lines[i][place];
      line.emplace_back(frame.x(static_cast<double>(place) + 1), frame.y(efficiency));
      svg.circle(line.back().first, line.back().second, 4, colour(i));
      svg.text(line.back().first, row + 11, std::string(1, static_cast<char>('A' + platform % 26)), Anchor::middle);
    }
    svg.polyline(line, colour(i));
    svg.rectangle(margin, row + 2, 10, 10, colour(i));
    svg.text(margin + 14, row + 11, shortened(all[i].application, 16));
    const double metric = architectural ? all[i].architectural_metric : all[i].application_metric;
    const double x = frame.right + 16 + slot * static_cast<double>(i);
    svg.rectangle(x, frame.y(metric), 0.8 * slot, frame.bottom - frame.y(metric), colour(i));
    svg.text(x + 0.4 * slot, frame.y(metric) - 4, std::format("{:.2f}", metric), Anchor::middle);
  }
  double at = 266 + 18 * rows;
  for (std::size_t i = 0; i < platforms.size(); ++i, at += 16)
    svg.text(margin, at, std::format("{}: {}", static_cast<char>('A' + i % 26),
                                     shortened(platforms[i], line_characters - 3)));
  return svg.element("Cascade of " + all.front().problem);
}

}  // namespace grist::report
