// Results of `grist bench`: one flat object for each test, under the names of llama-bench where it has one
// (llama.cpp/tools/llama-bench), and those of p3-analysis-library (date, fom, application, problem, platform).
// docs/bench.md lists them.
#pragma once

#include <grist/bench/roofline.hpp>
#include <grist/core/dtype.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

namespace grist::bench {

/// A row: keys in the order of columns.
using Row = nlohmann::ordered_json;

/// Rates per second, of all ranks together; latency in seconds. What was not measured is empty.
struct Machine {
  double read = 0, triad = 0;  // bytes
  double gemm_f32 = 0, gemm_bf16 = 0;  // FLOP, of a provider
  std::optional<double> gemm_int8{};   // of weights in blocks, where bytes are multiplied
  std::optional<double> mpi_latency{}, mpi_bandwidth{};
  std::optional<double> disk_write{}, disk_read{};

  /// Of the fastest products that could serve activations of `type` with weights that are in blocks or not. A
  /// processor may multiply bf16 slower than f32.
  [[nodiscard]] double gemm(DType type, bool blocks) const {
    if (type == DType::f32) return gemm_f32;
    return std::max({gemm_f32, gemm_bf16, blocks ? gemm_int8.value_or(0) : 0});
  }
};

/// What is the same for all tests of a run.
struct Setting {
  std::string build_commit, version;
  std::string device;       // name of the processor or accelerator
  bool device_is_host = true;
  std::string backend;      // Kokkos' execution space: "OpenMP", "Cuda"
  std::string gemm;         // provider of products
  std::string compiler, kokkos, mpi, onednn;  // versions; empty where the build has none
  std::string binding, command;
  int threads = 1, ranks = 1;
  std::string layout;       // "tp 2"
  std::string model_file, model;  // "llama 1.1B"; empty without a model
  std::uint64_t model_bytes = 0, parameters = 0;
  std::string dtype, kv_type, weights;
  Machine machine;
};

/// One test and its repetitions.
struct Test {
  std::string name;         // "pp512", "tg128 @ d4096", "all_reduce 64 KiB"
  std::string sizes{};      // of a kernel, which no model tells: "65536 x 2048"
  std::string unit = "tokens";  // what is counted: tokens, bytes or FLOP
  std::int64_t batch = 0, pass_tokens = 0;  // sequences at once, tokens of a pass; 0: has none
  std::int64_t prompt = 0, generated = 0, depth = 0;
  double amount = 0;        // units of one repetition
  Work work{};              // of one repetition: what its limit follows from; all 0 where it is none of the roofline
  std::vector<double> seconds;  // of each repetition, on the slowest rank
  double limit_seconds = 0;     // of one repetition
  std::string limit_name;
  std::string time;         // when the test began, ISO 8601 in UTC
};

/// `problem` names the work and nothing of how it is done: model and weights, test, batch, types of activations and of
/// the cache; not ranks, threads or layout.
Row row_of(const Setting& setting, const Test& test);

enum class Output { markdown, csv, json, jsonl };

/// Writes rows as they come; JSON is an array that end() closes.
class Printer {
public:
  Printer(std::ostream& out, Output output) : out_(out), output_(output) {}
  void write(const Row& row);
  /// What follows the rows. `machine` of the run, for the table.
  void end(const Setting& setting);

private:
  std::ostream& out_;
  Output output_;
  bool began_ = false;
};

/// A row of CSV with its end of line: header or values; lists are left out. Texts are quoted, numbers as JSON has them,
/// null is empty.
std::string csv_header(const Row& row);
std::string csv_line(const Row& row);

}  // namespace grist::bench
