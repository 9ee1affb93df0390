// Pictures as SVG, by a few shapes. Texts are escaped here.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace grist::report {

/// For the text or an attribute of XML or HTML; control characters, which XML has no words for, become '?'.
std::string escaped(std::string_view text);

/// Colours that the colour-blind tell apart too (Okabe and Ito 2008); from the first again where there are more.
const char* colour(std::size_t number);

/// Of all pictures, in units: so wide that text is 12 pixels high where a phone shows it.
constexpr double picture_width = 380, picture_margin = 8;
/// Characters of a line that the width has room for.
constexpr std::size_t line_characters = 60, bold_characters = 54;

/// At most so many characters of UTF-8; "..." stands for the rest.
std::string shortened(const std::string& text, std::size_t most);
/// Lines of at most so many bytes, broken at spaces where there are any.
std::vector<std::string> wrapped(const std::string& text, std::size_t most);

enum class Anchor { begin, middle, end };

/// A picture of width x height units; text is 12 units high.
class Svg {
public:
  Svg(double width, double height) : width_(width), height_(height) {}

  void rectangle(double x, double y, double width, double height, std::string_view fill);
  void line(double x1, double y1, double x2, double y2, std::string_view stroke, double width = 1, bool dashed = false);
  void polyline(const std::vector<std::pair<double, double>>& points, std::string_view stroke);
  void circle(double x, double y, double radius, std::string_view fill);
  void text(double x, double y, std::string_view words, Anchor anchor = Anchor::begin, bool bold = false);

  /// The whole element; `label` says what it shows to those who do not see it.
  [[nodiscard]] std::string element(std::string_view label) const;

private:
  double width_, height_;
  std::string shapes_;
};

}  // namespace grist::report
