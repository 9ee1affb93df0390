// The layouts that were promised: the same losses at each, and checkpoints that go from one to the other.
// A few ways of each layout run by default; GRIST_ALL_LAYOUTS=1 runs all. Ranks that a layout has no use for sleep.
#include "support/shared_folder.hpp"
#include "training.hpp"

#include <grist/hdf5/hdf5_file.hpp>

#include <chrono>
#include <cstdlib>
#include <format>
#include <iostream>
#include <map>
#include <thread>

namespace {

using namespace grist;
using test::expect_same_steps;
using test::TrainedModel;
using test::Way;
using train::Pipeline;
using train::Recompute;

const std::vector<Layout> promised = {{.dp = 1, .pp = 1, .tp = 1}, {.dp = 2, .pp = 1, .tp = 1},
                                      {.dp = 1, .pp = 2, .tp = 1}, {.dp = 1, .pp = 1, .tp = 2},
                                      {.dp = 2, .pp = 2, .tp = 1}, {.dp = 1, .pp = 2, .tp = 2},
                                      {.dp = 2, .pp = 1, .tp = 2}, {.dp = 2, .pp = 2, .tp = 2},
                                      {.dp = 1, .pp = 4, .tp = 1}};

class Layouts : public testing::Test {
protected:
  Layouts() : files(read_spec(config())) {}

  /// Uneven at tp=2, even at tp=3, eight layers for two chunks on four stages.
  std::filesystem::path config() {
    const auto file = folder / "config.json";
    if (world.rank() == 0)
      test::write_file(file, R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 67,
        "hidden_size": 24, "num_hidden_layers": 8, "num_attention_heads": 6, "num_key_value_heads": 3,
        "intermediate_size": 33, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "hidden_act": "silu", "tie_word_embeddings": true})");
    world.barrier();
    return folder.path();
  }

  /// Runs f(communicator) on so many ranks.
  template <class F>
  void on_ranks(int count, F&& f) {
    const Communicator some = world.split(world.rank() < count ? 0 : 1, world.rank());
    const auto done = folder / std::format("done.{}", ++runs);
    if (world.rank() < count) {
      f(some.handle());
      some.barrier();
      if (world.rank() == 0) test::write_file(done, "");
    }
    while (!std::filesystem::exists(done)) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }

  const Communicator world{test::world()};
  test::SharedFolder folder;
  const ModelFiles files;
  test::TrainingCase data{.steps = 20, .documents = true};
  Exec exec;
  int runs = 0;
};

std::vector<Way> ways_of(const Layout& layout) {
  std::vector<Way> ways;
  for (const Pipeline kind : {Pipeline::one_f_one_b, Pipeline::gpipe, Pipeline::interleaved}) {
    if (layout.pp == 1 && kind != Pipeline::one_f_one_b) continue;
    for (const bool zero : {false, true})
      for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::block})
        ways.push_back({layout,
                        {.recompute = recompute, .pipeline = kind, .chunks = kind == Pipeline::interleaved ? 2 : 1,
                         .sequence_parallel = layout.tp > 1 && recompute == Recompute::selective, .zero = zero}});
  }
  return ways;
}

TEST_F(Layouts, HaveOneRanksLossesOver20Steps) {
  const bool all = std::getenv("GRIST_ALL_LAYOUTS") != nullptr;
  const auto expected = TrainedModel(files, comm_self(), {}, data, {}).all_steps();
  EXPECT_LT(expected.back().loss, 0.98 * expected.front().loss) << "nothing was trained";
  int ran = 0, number = 0;
  for (const Layout& layout : promised) {
    if (layout.ranks() > world.size()) continue;
    const auto ways = ways_of(layout);
    for (std::size_t i = 0; i < ways.size(); ++i) {
      // By default the sixth part, another one of each layout.
      if (!all && (i + static_cast<std::size_t>(number)) % 6 != 0) continue;
      SCOPED_TRACE(ways[i].name());
      on_ranks(layout.ranks(), [&](CommHandle comm) {
        expect_same_steps(TrainedModel(files, comm, layout, data, ways[i].options).all_steps(), expected, 1e-5);
      });
      ++ran;
    }
    ++number;
  }
  if (world.rank() == 0)
    std::cout << std::format("{} ways over {} steps, up to {} ranks\n", ran, data.steps, world.size());
}

/// All numbers of a checkpoint by name.
std::map<std::string, std::vector<float>> tensors_of(const std::filesystem::path& path,
                                                     const std::vector<FileTensor>& tensors) {
  const auto file = io::Hdf5File::open(path);
  std::map<std::string, std::vector<float>> found;
  for (const auto& [name, shape, initial, plus_one] : tensors) {
    for (const char* group : {"/model/", "/optimizer/m/", "/optimizer/v/"}) {
      Index count = 1;
      for (const Index extent : shape) count *= extent;
      auto& values = found[group + name];
      values.resize(static_cast<std::size_t>(count));
      const io::Hyperslab whole{std::vector<Index>(shape.size()), shape};
      file.read(group + name, std::span(&whole, 1), values.data());
    }
  }
  return found;
}

TEST_F(Layouts, GoOnFromTheCheckpointOfAnother) {
  if (world.size() < 4) return;
  data.steps = 8;
  const auto file = folder / "first.h5";
  std::vector<train::StepResult> rest;
  double loss = 0;
  const Layout first{.pp = 2, .tp = 2};
  on_ranks(4, [&](CommHandle comm) {
    TrainedModel model(files, comm, first, data, {});
    model.steps(1, 4);
    save_checkpoint(exec, file, model.trainer->layout(), model.trainer->groups(), {.step = 4}, model.grid);
    loss = model.evaluate(5);
    rest = model.steps(5, 8);
  });
  const std::vector<Layout> targets = {{.dp = 2}, {}, {.dp = 4}, {.pp = 4}, {.tp = 3}, {.pp = 2, .tp = 2},
                                       {.dp = 2, .pp = 2}, {.dp = 2, .tp = 2}, {.dp = 3}};
  auto from = file;
  for (std::size_t i = 0; i < 2 * targets.size(); ++i) {
    const Layout& layout = targets[i / 2];
    const bool zero = i % 2 == 1;
    SCOPED_TRACE(std::format("{}, zero {}", to_string(layout), zero));
    if (data.batch % layout.dp != 0) data.batch = 6;
    const auto again = folder / std::format("again.{}.h5", i);
    on_ranks(layout.ranks(), [&](CommHandle comm) {
      TrainedModel model(files, comm, layout, data, {.zero = zero});
      const auto fresh = model.weights();
      load_checkpoint(exec, from, model.trainer->layout(), model.trainer->groups(), model.grid);
      EXPECT_NE(model.weights(), fresh) << "before loading it is another model";
      model.trainer->loaded(exec, 4);
      save_checkpoint(exec, again, model.trainer->layout(), model.trainer->groups(), {.step = 4}, model.grid);
      const auto& tensors = model.trainer->layout().tensors();
      EXPECT_EQ(tensors_of(again, tensors), tensors_of(file, tensors)) << "tensor by tensor";
      if (data.batch == 6) return;  // other steps
      EXPECT_NEAR(model.evaluate(5), loss, 2e-6 * loss);
      expect_same_steps(model.steps(5, 8), rest, 1e-5);
    });
    from = again;
  }
}

}  // namespace
