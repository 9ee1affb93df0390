// Filters of numbers and texts, which the table of filters names.
#pragma once

#include <grist/text/jinja/value.hpp>

namespace grist::text::jinja {

Value to_integer(const Value& value, const Arguments& arguments);
Value to_real(const Value& value, const Arguments& arguments);
Value rounded(const Value& value, const Arguments& arguments);
Value absolute(const Value& value, const Arguments& arguments);
Value escaped(const Value& value, const Arguments& arguments);
Value indented(const Value& value, const Arguments& arguments);
Value titled(const Value& value, const Arguments& arguments);
Value truncated(const Value& value, const Arguments& arguments);
Value word_count(const Value& value, const Arguments& arguments);
Value formatted(const Value& value, const Arguments& arguments);
Value url_encoded(const Value& value, const Arguments& arguments);
Value file_size(const Value& value, const Arguments& arguments);
Value dict_items(const Value& value, const Arguments& arguments);
Value json(const Value& value, const Arguments& arguments);

}  // namespace grist::text::jinja
