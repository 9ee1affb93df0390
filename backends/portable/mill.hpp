// This folder's answers for what layers take as templates.
#pragma once

#include <grist/backends/portable/tile.hpp>

namespace grist::mill {
using Tile = portable::Tile;
}
