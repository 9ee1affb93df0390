// A folder that all ranks of a test share.
#pragma once

#include <grist/comm/communicator.hpp>

#include <support/files.hpp>
#include <support/ranks.hpp>

#include <optional>
#include <string>

namespace grist::test {

/// Made by the first rank, and gone with the last one's.
class SharedFolder {
public:
  SharedFolder() : world_(test::world()) {
    if (world_.rank() == 0) mine_.emplace();
    std::string name = mine_ ? mine_->path().string() : "";
    int size = static_cast<int>(name.size());
    world_.broadcast(&size, 1, 0);
    std::vector<int> letters(name.begin(), name.end());
    letters.resize(static_cast<std::size_t>(size));
    world_.broadcast(letters.data(), size, 0);
    path_ = std::string(letters.begin(), letters.end());
  }
  ~SharedFolder() { world_.barrier(); }
  SharedFolder(const SharedFolder&) = delete;
  SharedFolder& operator=(const SharedFolder&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

private:
  Communicator world_;
  std::optional<TemporaryFolder> mine_;
  std::filesystem::path path_;
};

}  // namespace grist::test
