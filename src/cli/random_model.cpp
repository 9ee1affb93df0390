#include "random_model.hpp"

#include "model_files.hpp"
#include "progress.hpp"

#include <grist/comm/broadcast_text.hpp>
#include <grist/model/initialize.hpp>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace grist::cli {

namespace fs = std::filesystem;

RandomModel::RandomModel(const Runtime& runtime, const fs::path& config) {
  const Communicator node = runtime.world().split_by_node();
  try {
    runtime.together([&] {
      if (node.rank() != 0) return;
      std::string name = (fs::temp_directory_path() / "grist_bench_XXXXXX").string();
      if (mkdtemp(name.data()) == nullptr) throw InputError("{}: cannot be made: {}", name, std::strerror(errno));
      folder_ = name;
      made_ = true;
      ProgressLine line("drawing", runtime.root());
      write_initial_weights(read_spec(config), 0, folder_,
                            [&](std::uint64_t done, std::uint64_t total) { line.show(done, total); });
      copy_over(config, folder_ / "config.json");
    });
  } catch (...) {
    if (made_) fs::remove_all(folder_);
    throw;
  }
  folder_ = broadcast_text(node, folder_.string(), 0);
}

RandomModel::~RandomModel() {
  std::error_code ignored;
  if (made_) fs::remove_all(folder_, ignored);
}

}  // namespace grist::cli
