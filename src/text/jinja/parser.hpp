// Jinja2's grammar, with the extensions that transformers loads: break, continue, generation.
#pragma once

#include <grist/text/jinja/syntax.hpp>

#include <string_view>

namespace grist::text::jinja {

/// Throws Failure with the line; tags that are not Jinja's, or not supported, are named.
Block parse(std::string_view source);

}  // namespace grist::text::jinja
