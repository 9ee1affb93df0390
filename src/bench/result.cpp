#include <grist/bench/result.hpp>

#include <grist/core/csv.hpp>
#include <grist/core/si_prefix.hpp>

#include <algorithm>
#include <cmath>
#include <format>
#include <ostream>

namespace grist::bench {
namespace {

template <class T>
Row or_null(const std::optional<T>& value) {
  return value ? Row(*value) : Row(nullptr);
}

/// Columns of characters, where a text is UTF-8.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

struct Column {
  const char* title;
  std::size_t width;
  bool left;
};
constexpr Column columns[] = {{"model", 20, true}, {"size", 10, false},   {"params", 10, false}, {"backend", 8, true},
                              {"ranks", 5, false}, {"threads", 7, false}, {"dtype", 5, false},   {"kv", 4, false},
                              {"batch", 5, false}, {"test", 24, false},   {"reps", 4, false},    {"t/s", 18, false},
                              {"limit", 18, false}, {"%", 5, false}};

std::string padded(const std::string& text, const Column& column) {
  const std::size_t width = width_of(text);
  const std::string fill(column.width > width ? column.width - width : 0, ' ');
  return column.left ? text + fill : fill + text;
}

std::string table_head() {
  std::string titles = "|", rule = "|";
  for (const Column& column : columns) {
    titles += " " + padded(column.title, column) + " |";
    rule += " " + std::string(column.width - (column.left ? 0 : 1), '-') + (column.left ? " |" : ": |");
  }
  return titles + "\n" + rule + "\n";
}

/// "1.10 B", "134.52 M", as llama-bench has it.
std::string in_steps(double value, double step, const char* small, const char* large) {
  return value < step * step * step ? std::format("{:.2f} {}", value / step / step, small)
                                    : std::format("{:.2f} {}", value / step / step / step, large);
}

std::string per_second(double value, const std::string& unit) {
  if (unit == "tokens") return std::format("{:.2f}", value);
  return with_prefix(value, unit == "bytes" ? "B/s" : "FLOP/s");
}

std::string table_line(const Row& row) {
  const auto text = [&](const char* key) { return row.at(key).get<std::string>(); };
  const auto number = [&](const char* key) { return row.at(key).get<double>(); };
  const bool model = number("model_size") > 0, tokens = text("unit") == "tokens";
  const std::string cells[] = {
      model ? text("model_type") : "",
      model ? in_steps(number("model_size"), 1024, "MiB", "GiB") : "",
      model ? in_steps(number("model_n_params"), 1000, "M", "B") : "",
      text("backends"),
      std::format("{}", number("ranks")),
      std::format("{}", number("n_threads")),
      text("dtype"),
      text("type_k"),
      number("batch") > 0 ? std::format("{}", number("batch")) : "",
      text("test"),
      std::format("{}", number("repetitions")),
      tokens ? std::format("{:.2f} ± {:.2f}", number("avg_ts"), number("stddev_ts"))
             : std::format("{} ± {:.0f} %", per_second(number("avg_ts"), text("unit")),
                           100 * number("stddev_ts") / number("avg_ts")),
      std::format("{} {}", per_second(number("limit"), text("unit")), text("limit_name")),
      std::format("{:.1f}", 100 * number("fraction"))};
  std::string line = "|";
  for (std::size_t i = 0; i < std::size(columns); ++i) line += " " + padded(cells[i], columns[i]) + " |";
  return line + "\n";
}

std::string machine_lines(const Setting& setting) {
  const Machine& m = setting.machine;
  std::string line = std::format("machine: {}, read {}, triad {}", setting.device, with_prefix(m.read, "B/s"),
                                 with_prefix(m.triad, "B/s"));
  for (const auto& [name, rate] : {std::pair("f32", m.gemm_f32), std::pair("bf16", m.gemm_bf16),
                                   std::pair("int8", m.gemm_int8.value_or(0))})
    if (rate > 0) line += std::format(", gemm {} {}", name, with_prefix(rate, "FLOP/s"));
  if (m.mpi_latency) line += std::format(", mpi latency {}", with_prefix(*m.mpi_latency, "s"));
  if (m.mpi_bandwidth) line += std::format(", mpi bandwidth {}", with_prefix(*m.mpi_bandwidth, "B/s"));
  if (m.disk_write) line += std::format(", disk write {}", with_prefix(*m.disk_write, "B/s"));
  if (m.disk_read) line += std::format(", disk read {}", with_prefix(*m.disk_read, "B/s"));
  return std::format("\nbuild: {} ({})\n{}\n", setting.build_commit, setting.version, line);
}

std::string problem_of(const Setting& setting, const std::string& model_type, const Test& test) {
  std::string problem = model_type.empty() ? test.name : model_type + ", " + test.name;
  if (!test.sizes.empty()) problem += ", " + test.sizes;
  if (test.batch > 0) problem += std::format(", batch {}", test.batch);
  problem += ", " + setting.dtype;
  if (!setting.kv_type.empty()) problem += ", kv " + setting.kv_type;
  return problem;
}

}  // namespace

Row row_of(const Setting& setting, const Test& test) {
  std::vector<double> nanoseconds, rates;
  std::vector<std::int64_t> rounded;
  for (const double seconds : test.seconds) {
    nanoseconds.push_back(seconds * 1e9);
    rounded.push_back(std::llround(seconds * 1e9));
    rates.push_back(test.amount / seconds);
  }
  const auto time = statistics(nanoseconds), rate = statistics(rates);
  const double limit = test.amount / test.limit_seconds;
  const Machine& m = setting.machine;
  const std::string none;
  const std::string model_type = setting.model.empty() ? none : setting.model + " " + setting.weights;
  return {{"build_commit", setting.build_commit},
          {"version", setting.version},
          {"cpu_info", setting.device_is_host ? setting.device : none},
          {"gpu_info", setting.device_is_host ? none : setting.device},
          {"backends", setting.backend},
          {"model_filename", setting.model_file},
          {"model_type", model_type},
          {"model_size", setting.model_bytes},
          {"model_n_params", setting.parameters},
          {"n_batch", test.pass_tokens},
          {"n_threads", setting.threads},
          {"type_k", setting.kv_type},
          {"type_v", setting.kv_type},
          {"n_prompt", test.prompt},
          {"n_gen", test.generated},
          {"n_depth", test.depth},
          {"test_time", test.time},
          {"avg_ns", std::llround(time.mean)},
          {"stddev_ns", std::llround(time.deviation)},
          {"avg_ts", rate.mean},
          {"stddev_ts", rate.deviation},
          {"samples_ns", rounded},
          {"samples_ts", rates},
          {"test", test.name},
          {"unit", test.unit},
          {"repetitions", test.seconds.size()},
          {"median_ts", rate.median},
          {"model", setting.model},
          {"batch", test.batch},
          {"dtype", setting.dtype},
          {"weights", setting.weights},
          {"limit", limit},
          {"fraction", rate.mean / limit},
          {"limit_name", test.limit_name},
          {"flops", test.work.flops},
          {"bytes", test.work.bytes},
          {"ranks", setting.ranks},
          {"layout", setting.layout},
          {"binding", setting.binding},
          {"backend", std::format("Kokkos {}, {}", setting.backend, setting.gemm)},
          {"compiler", setting.compiler},
          {"kokkos_version", setting.kokkos},
          {"mpi_version", setting.mpi},
          {"onednn_version", setting.onednn},
          {"command", setting.command},
          {"read_bandwidth", m.read},
          {"triad_bandwidth", m.triad},
          {"gemm_f32", m.gemm_f32},
          {"gemm_bf16", m.gemm_bf16},
          {"gemm_int8", or_null(m.gemm_int8)},
          {"mpi_latency", or_null(m.mpi_latency)},
          {"mpi_bandwidth", or_null(m.mpi_bandwidth)},
          {"disk_write", or_null(m.disk_write)},
          {"disk_read", or_null(m.disk_read)},
          {"date", test.time.substr(0, 10)},
          {"fom", rate.mean},
          {"application", "grist"},
          {"problem", problem_of(setting, model_type, test)},
          {"platform", setting.device}};
}

std::string csv_header(const Row& row) {
  std::string line;
  for (const auto& [key, value] : row.items())
    if (!value.is_array()) line += (line.empty() ? "" : ",") + key;
  return line + "\n";
}

std::string csv_line(const Row& row) {
  std::string line;
  bool first = true;
  for (const auto& [key, value] : row.items()) {
    if (value.is_array()) continue;
    if (!first) line += ",";
    first = false;
    line += value.is_string() ? csv_quoted(value.get<std::string>()) : value.is_null() ? "" : value.dump();
  }
  return line + "\n";
}

void Printer::write(const Row& row) {
  const auto dump = [&](int indent) {
    return row.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  const bool first = !began_;
  began_ = true;
  switch (output_) {
    case Output::markdown: out_ << (first ? table_head() : "") << table_line(row); break;
    case Output::csv: out_ << (first ? csv_header(row) : "") << csv_line(row); break;
    case Output::json: out_ << (first ? "[\n" : ",\n") << dump(2); break;
    case Output::jsonl: out_ << dump(-1) << '\n'; break;
  }
  out_.flush();
}

void Printer::end(const Setting& setting) {
  if (output_ == Output::json) out_ << (began_ ? "\n]\n" : "[]\n");
  if (output_ == Output::markdown) out_ << machine_lines(setting);
}

}  // namespace grist::bench
