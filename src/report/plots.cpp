#include <grist/report/plots.hpp>

#include <grist/core/si_prefix.hpp>
#include <grist/report/svg.hpp>

#include <algorithm>
#include <cmath>
#include <format>
#include <functional>

namespace grist::report {
namespace {

constexpr const char* grey = "#CCCCCC";
constexpr const char* dark = "#666666";
/// A frame with a vertical axis and ticks; linear in what it is given.
struct Frame {
  double left = 56, top = 12, right = picture_width - 24, bottom = 232;
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
  double f32 = 0, bf16 = 0, int8 = 0;
  for (const Result& result : group) {
    roofs.read = std::max(roofs.read, result.number("read_bandwidth"));
    f32 = std::max(f32, result.number("gemm_f32"));
    bf16 = std::max(bf16, result.number("gemm_bf16"));
    int8 = std::max(int8, result.number("gemm_int8"));
  }
  for (const auto& [name, value] : {std::pair("f32", f32), std::pair("bf16", bf16), std::pair("int8", int8)})
    if (value > 0) roofs.gemm.emplace_back(name, value);
  return roofs;
}

double intensity(const Result& result) { return result.flops / result.bytes; }
double speed(const Result& result) { return result.flops / result.seconds; }

/// Lines below a picture's frame, each entry with its mark; entries may take several lines.
class Legend {
public:
  void add(const std::string& text) { entries_.push_back(wrapped(text, line_characters - 4)); }
  [[nodiscard]] double height() const {
    double lines = 0;
    for (const auto& entry : entries_) lines += static_cast<double>(entry.size());
    return line_height * lines + picture_margin;
  }
  /// From y on. `mark` draws entry i's, 10 units high, at a height.
  void draw(Svg& svg, double y, const std::function<void(std::size_t, double)>& mark) const {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      mark(i, y);
      for (const std::string& line : entries_[i]) {
        svg.text(picture_margin + 20, y + 10, line);
        y += line_height;
      }
    }
  }

private:
  static constexpr double line_height = 16;
  std::vector<std::vector<std::string>> entries_;
};

/// Puts short texts beside points, where no point and no other text is.
class PointNames {
public:
  explicit PointNames(std::vector<std::pair<double, double>> points) : taken_(std::move(points)) {}
  void draw(Svg& svg, double x, double y, const std::string& name) {
    constexpr std::pair<double, double> offsets[] = {{12, 0}, {-12, 0}, {0, -11}, {0, 11}, {12, -11}, {-12, -11},
                                                     {12, 11}, {-12, 11}};
    auto best = offsets[0];
    for (const auto& offset : offsets) {
      const bool free = std::ranges::none_of(taken_, [&](const auto& other) {
        return std::abs(other.first - x - offset.first) < 12 && std::abs(other.second - y - offset.second) < 10;
      });
      if (free) {
        best = offset;
        break;
      }
    }
    taken_.emplace_back(x + best.first, y + best.second);
    svg.text(x + best.first, y + best.second + 4, name, Anchor::middle);
  }

private:
  std::vector<std::pair<double, double>> taken_;
};

/// Their types stand beside the frame, apart where the roofs are near each other.
void draw_roofs(Svg& svg, const Frame& frame, const Roofs& roofs) {
  const auto name_at = [&](double gemm) {
    double shift = 0;
    for (const auto& [name, other] : roofs.gemm) {
      const double away = frame.y(std::log10(gemm)) - frame.y(std::log10(other));
      if (away != 0 && std::abs(away) < 12) shift = (away < 0 ? -1 : 1) * (12 - std::abs(away)) / 2;
    }
    return frame.y(std::log10(gemm)) + 4 + shift;
  };
  for (const auto& [name, gemm] : roofs.gemm) {
    const double knee = std::log10(gemm / roofs.read), top = frame.y(std::log10(gemm));
    const double begin = std::max(frame.x_from, frame.y_from - std::log10(roofs.read));
    svg.polyline({{frame.x(begin), frame.y(begin + std::log10(roofs.read))},
                  {frame.x(knee), top},
                  {frame.x(frame.x_to), top}},
                 dark);
    svg.text(frame.right + 4, name_at(gemm), name);
  }
}

std::string letter_of(std::size_t platform) { return {static_cast<char>('A' + platform % 26)}; }

std::string roofline(const std::vector<Result>& points, const Roofs& roofs) {
  double least_x = 1e300, most_x = 0, least_y = 1e300, most_y = 0;
  const auto hold = [&](double x, double y) {
    least_x = std::min(least_x, x), most_x = std::max(most_x, x);
    least_y = std::min(least_y, y), most_y = std::max(most_y, y);
  };
  for (const Result& point : points) hold(intensity(point), speed(point));
  for (const auto& [name, gemm] : roofs.gemm) hold(gemm / roofs.read, gemm);
  constexpr double room = 0.2;  // of a decade, for the name of a point beside the axis
  const Frame frame{.top = 34, .right = picture_width - 36, .bottom = 254,
                    .x_from = std::floor(std::log10(least_x) - room), .x_to = std::floor(std::log10(most_x)) + 1,
                    .y_from = std::floor(std::log10(least_y) - room), .y_to = std::floor(std::log10(most_y)) + 1};
  const auto labels = labels_of(points);
  const bool one = std::ranges::all_of(labels, [&](const std::string& label) { return label == labels.front(); });
  Legend legend;
  std::vector<std::pair<double, double>> places;
  for (std::size_t i = 0; i < points.size(); ++i) {
    legend.add(points[i].problem + (one ? "" : ", " + labels[i]));
    places.emplace_back(frame.x(std::log10(intensity(points[i]))), frame.y(std::log10(speed(points[i]))));
  }
  std::string rates = "read " + with_prefix(roofs.read, "B/s");
  for (const auto& [name, gemm] : roofs.gemm) rates += std::format(", {} {}", name, with_prefix(gemm, "FLOP/s"));
  Svg svg(picture_width, 314 + legend.height());
  const std::string title = std::format("{}, {}", points.front().platform, extent_of(points.front()));
  svg.text(picture_margin, 18, shortened(title, bold_characters), Anchor::begin, true);
  for (double at = frame.x_from; at <= frame.x_to; ++at) frame.x_tick(svg, at, std::format("{:g}", std::pow(10, at)));
  for (double at = frame.y_from; at <= frame.y_to; ++at) frame.y_tick(svg, at, with_prefix(std::pow(10, at), ""));
  draw_roofs(svg, frame, roofs);
  svg.text((frame.left + frame.right) / 2, 284, "FLOP/s over FLOP per byte", Anchor::middle);
  svg.text(picture_margin, 304, shortened(rates, line_characters));
  PointNames names(places);
  for (std::size_t i = 0; i < points.size(); ++i) {
    svg.circle(places[i].first, places[i].second, 4, colour(i));
    names.draw(svg, places[i].first, places[i].second, std::format("{}", i + 1));
  }
  legend.draw(svg, 314, [&](std::size_t i, double y) {
    svg.text(picture_margin, y + 10, std::format("{}", i + 1), Anchor::begin, true);
  });
  return svg.element("Roofline of " + title);
}

}  // namespace

std::vector<std::string> rooflines(const std::vector<Result>& results) {
  std::vector<std::pair<std::string, std::vector<Result>>> groups;
  for (const Result& result : results) {
    const std::string key = extent_of(result) + " " + result.platform;
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
  Legend legend;
  for (const Scaling& scaling : scalings) {
    legend.add(std::format("{}, {}, {}", scaling.problem, scaling.application, scaling.platform));
    for (const ScalingPoint& point : scaling.points) {
      ranks.push_back(point.ranks);
      most = std::max(most, point.efficiency);
    }
  }
  std::ranges::sort(ranks);
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  const Frame frame{.x_from = std::log2(ranks.front()), .x_to = std::log2(ranks.back()), .y_from = 0,
                    .y_to = std::ceil(4 * most) / 4};
  Svg svg(picture_width, 272 + legend.height());
  frame.percent_ticks(svg);
  for (const int count : ranks) frame.x_tick(svg, std::log2(count), std::format("{}", count));
  svg.text((frame.left + frame.right) / 2, frame.bottom + 28, "ranks", Anchor::middle);
  for (std::size_t i = 0; i < scalings.size(); ++i) {
    std::vector<std::pair<double, double>> line;
    for (const ScalingPoint& point : scalings[i].points) {
      line.emplace_back(frame.x(std::log2(point.ranks)), frame.y(point.efficiency));
      svg.circle(line.back().first, line.back().second, 4, colour(i));
    }
    svg.polyline(line, colour(i));
  }
  legend.draw(svg, 272, [&](std::size_t i, double y) { svg.rectangle(picture_margin, y, 10, 10, colour(i)); });
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
  Frame frame{.right = 240, .x_from = 0.5, .x_to = count + 0.5, .y_from = 0, .y_to = 1};
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
  Svg svg(picture_width, 272 + 16 * (rows + count) + 2 * picture_margin);
  frame.percent_ticks(svg);
  const double slot = (picture_width - picture_margin - frame.right - 16) / rows, second = 140, third = 216;
  double row = 268;
  svg.text(second, row, "portability", Anchor::begin, true);
  svg.text(third, row, "platforms, best first", Anchor::begin, true);
  row += 6;
  for (std::size_t i = 0; i < all.size(); ++i, row += 16) {
    std::vector<std::pair<double, double>> line;
    std::string letters;
    for (const auto& [efficiency, platform] : lines[i]) {
      line.emplace_back(frame.x(static_cast<double>(line.size()) + 1), frame.y(efficiency));
      svg.circle(line.back().first, line.back().second, 4, colour(i));
      letters += letter_of(platform) + " ";
    }
    svg.polyline(line, colour(i));
    const double metric = architectural ? all[i].architectural_metric : all[i].application_metric;
    svg.rectangle(picture_margin, row, 10, 10, colour(i));
    svg.text(picture_margin + 16, row + 10, shortened(all[i].application, 18));
    svg.text(second, row + 10, std::format("{:.2f}", metric));
    svg.text(third, row + 10, shortened(letters, 24));
    svg.rectangle(frame.right + 16 + slot * static_cast<double>(i), frame.y(metric), 0.8 * slot,
                  frame.bottom - frame.y(metric), colour(i));
  }
  row += picture_margin;
  for (std::size_t i = 0; i < platforms.size(); ++i, row += 16)
    svg.text(picture_margin, row + 10, shortened(std::format("{}: {}", letter_of(i), platforms[i]), line_characters));
  return svg.element("Cascade of " + all.front().problem);
}

}  // namespace grist::report
