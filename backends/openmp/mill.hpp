// This folder's answers for what layers take as templates.
#pragma once

#include <grist/backends/openmp/tile.hpp>

namespace grist::mill {
using Tile = openmp::Tile;
}
