// Rows of a file of results, whatever its form.
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <vector>

namespace grist::report {

/// Of JSON: an array, an object with `rows`, one object, or an object in each line; of CSV with a header where the
/// file's name ends in .csv: quoted cells are texts, others numbers where they read as such, empty ones null. Throws
/// InputError: cannot be read, empty, none of these. Rows may be of any type but in CSV.
std::vector<nlohmann::ordered_json> read_rows(const std::filesystem::path& file);

}  // namespace grist::report
