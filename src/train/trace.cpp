#include <grist/train/trace.hpp>

#include <grist/core/errors.hpp>

#include <nlohmann/json.hpp>

#include <cerrno>
#include <cstring>
#include <fstream>

namespace grist::train {
namespace {

std::string text_of(const nlohmann::ordered_json& event) {
  return event.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

Trace::Trace(int rank, const std::string& title) : rank_(rank) {
  const auto name = [&](const char* what, int lane, const std::string& text) {
    events_.push_back(
        text_of({{"name", what}, {"ph", "M"}, {"pid", rank}, {"tid", lane}, {"args", {{"name", text}}}}));
  };
  name("process_name", 0, title);
  events_.push_back(text_of({{"name", "process_sort_index"}, {"ph", "M"}, {"pid", rank}, {"tid", 0},
                             {"args", {{"sort_index", rank}}}}));
  int lane = 0;
  for (const char* text : {"compute", "communication", "data", "checkpoint"}) name("thread_name", lane++, text);
}

void Trace::add(Lane lane, const std::string& name, Clock::time_point begin, Clock::time_point end,
                const std::string& detail) {
  using Microseconds = std::chrono::duration<double, std::micro>;
  nlohmann::ordered_json event = {{"name", name},
                                  {"ph", "X"},
                                  {"pid", rank_},
                                  {"tid", static_cast<int>(lane)},
                                  {"ts", Microseconds(begin - origin_).count()},
                                  {"dur", Microseconds(end - begin).count()}};
  if (!detail.empty()) event["args"] = {{"detail", detail}};
  events_.push_back(text_of(event));
}

std::string Trace::events() const {
  std::string all;
  for (const std::string& event : events_) all += (all.empty() ? "" : ",\n") + event;
  return all;
}

void write_trace(const std::filesystem::path& file, const std::vector<std::string>& events_of_ranks) {
  std::ofstream out(file, std::ios::binary);
  out << "[\n";
  const char* before = "";
  for (const std::string& events : events_of_ranks) {
    out << before << events;
    before = ",\n";
  }
  out << "\n]\n";
  if (!out.flush()) throw InputError("{}: cannot be written: {}", file.string(), std::strerror(errno));
}

}  // namespace grist::train
