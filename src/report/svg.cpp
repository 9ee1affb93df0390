#include <grist/report/svg.hpp>

#include <format>

namespace grist::report {

std::string escaped(std::string_view text) {
  std::string all;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '&') all += "&amp;";
    else if (c == '<') all += "&lt;";
    else if (c == '>') all += "&gt;";
    else if (c == '"') all += "&quot;";
    else if (c == '\'') all += "&#39;";
    else all += byte < ' ' && c != '\n' && c != '\t' ? '?' : c;
  }
  return all;
}

std::string shortened(const std::string& text, std::size_t most) {
  std::size_t characters = 0, cut = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if ((text[at] & 0xC0) == 0x80) continue;
    if (characters == most - 3) cut = at;
    if (++characters > most) return text.substr(0, cut) + "...";
  }
  return text;
}

std::vector<std::string> wrapped(const std::string& text, std::size_t most) {
  std::vector<std::string> lines;
  std::size_t begin = 0;
  while (text.size() - begin > most) {
    std::size_t end = text.rfind(' ', begin + most);
    if (end == std::string::npos || end <= begin) {
      end = begin + most;
      while (end > begin + 1 && (text[end] & 0xC0) == 0x80) --end;  // no character is cut
    }
    lines.push_back(text.substr(begin, end - begin));
    begin = end + (text[end] == ' ' ? 1 : 0);
  }
  lines.push_back(text.substr(begin));
  return lines;
}

const char* colour(std::size_t number) {
  constexpr const char* colours[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"};
  return colours[number % std::size(colours)];
}

void Svg::rectangle(double x, double y, double width, double height, std::string_view fill) {
  shapes_ += std::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>\n", x, y,
                         width, height, fill);
}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view stroke, double width, bool dashed) {
  shapes_ += std::format(
      "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" stroke-width=\"{}\"{}/>\n", x1, y1,
      x2, y2, stroke, width, dashed ? " stroke-dasharray=\"4 3\"" : "");
}

void Svg::polyline(const std::vector<std::pair<double, double>>& points, std::string_view stroke) {
  std::string list;
  for (const auto& [x, y] : points) list += std::format("{}{:.1f},{:.1f}", list.empty() ? "" : " ", x, y);
  shapes_ += std::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n", list, stroke);
}

void Svg::circle(double x, double y, double radius, std::string_view fill) {
  shapes_ += std::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" fill=\"{}\"/>\n", x, y, radius, fill);
}

void Svg::text(double x, double y, std::string_view words, Anchor anchor, bool bold) {
  constexpr const char* anchors[] = {"start", "middle", "end"};
  shapes_ += std::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y,
                         anchors[static_cast<int>(anchor)], bold ? " font-weight=\"bold\"" : "", escaped(words));
}

std::string Svg::element(std::string_view label) const {
  return std::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\" "
      "font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#222222\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"#FFFFFF\"/>\n{}</svg>\n",
      width_, height_, escaped(label), shapes_);
}

}  // namespace grist::report
