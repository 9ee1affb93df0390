#include "shared_run.hpp"

#include "interrupt.hpp"
#include "train_options.hpp"

#include <grist/comm/broadcast_text.hpp>
#include <grist/core/clock.hpp>

#include <nlohmann/json.hpp>

#include <unistd.h>

#include <format>
#include <thread>
#include <utility>

namespace grist::cli {

using nlohmann::json;

CLI::Option* add_walltime_to(CLI::App& app, std::string& walltime) {
  return app.add_option("--max-walltime", walltime,
                        "HH:MM:SS after which it stops with code 75; under Slurm the job's end is known");
}

Deadline deadline_of(const Runtime& runtime, const std::string& walltime, Deadline::Clock::time_point begin) {
  std::optional<std::chrono::seconds> limit;
  runtime.together([&] {
    if (!walltime.empty()) limit = parse_walltime(walltime);
  });
  return {end_of_job(limit, begin), 0};
}

SharedRun::SharedRun(const Communicator& world, const Communicator& replica, std::span<const std::string> texts,
                     const Deadline& deadline, Names names, Collect collect)
    : world_(world),
      replica_(replica),
      work_(world, texts),
      results_(world),
      deadline_(deadline),
      names_(std::move(names)),
      take_in_(std::move(collect)),
      line_(std::in_place, names_.done, world.rank() == 0),
      root_(world.rank() == 0),
      texts_(texts.size()),
      replicas_left_(world.size() / replica.size()) {}

std::optional<std::vector<std::string>> SharedRun::take(std::size_t wanted, bool wait) {
  pass_on_stop();
  std::vector<std::string> texts;
  bool stopped = false;
  if (replica_.rank() == 0) {
    texts = work_.take(wanted);
    while (wait && texts.empty() && !work_.done() && !work_.stopped()) {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
      pass_on_stop();
      texts = work_.take(wanted);
    }
    stopped = work_.stopped();
  }
  if (replica_.size() > 1) {
    json orders = json::array();
    for (const auto& text : texts) orders.push_back(json::binary({text.begin(), text.end()}));
    const auto bytes = stopped || !texts.empty() ? json::to_msgpack({{"stop", stopped}, {"take", orders}})
                                                 : std::vector<std::uint8_t>();
    const std::string told = broadcast_text(replica_, {bytes.begin(), bytes.end()}, 0);
    texts.clear();
    if (!told.empty()) {
      const json all = json::from_msgpack(told);
      stopped = all.at("stop");
      for (const auto& order : all.at("take"))
        texts.emplace_back(order.get_binary().begin(), order.get_binary().end());
    }
  }
  if (stopped) return std::nullopt;
  return texts;
}

void SharedRun::send(std::string result) {
  if (replica_.rank() == 0) results_.send(std::move(result));
}

void SharedRun::stepped(double seconds) {
  deadline_.stepped(seconds);
  collect();
}

bool SharedRun::finish() {
  send("");
  // Until the last replica has left, a signal to any rank is one to all.
  while (root_ ? replicas_left_ > 0 : !work_.closed()) {
    pass_on_stop();
    collect();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  if (root_) work_.close();
  results_.flush();
  int all = collected_ == texts_ ? 1 : 0;
  world_.broadcast(&all, 1, 0);
  line_.reset();
  if (root_ && on_terminal(STDERR_FILENO))
    note(std::format("{} {} {}, {} tokens, {}", collected_, names_.things, names_.done, tokens_, rate()));
  return all != 0;
}

/// Tells all ranks to stop where a signal came to this one or its time is over.
void SharedRun::pass_on_stop() {
  if (told_ || !(Interrupt::came() || deadline_.reached(Clock::now()))) return;
  work_.stop();
  told_ = true;
}

/// An empty text is a replica's last.
void SharedRun::collect() {
  work_.look();
  if (!root_) return;
  for (const auto& result : results_.receive()) {
    if (result.empty()) {
      --replicas_left_;
      continue;
    }
    tokens_ += take_in_(result);
    ++collected_;
  }
  tell();
}

/// On a terminal a line that changes; elsewhere one now and then.
void SharedRun::tell() {
  const bool terminal = on_terminal(STDERR_FILENO);
  const auto now = Clock::now();
  if (now - shown_ < (terminal ? std::chrono::milliseconds(200) : std::chrono::seconds(60))) return;
  shown_ = now;
  std::string detail = rate();
  if (collected_ > 0) {
    const double each = seconds_since(begin_) / static_cast<double>(collected_);
    const auto left = static_cast<long>(each * static_cast<double>(texts_ - collected_));
    detail += std::format(", {}:{:02}:{:02} left", left / 3600, left / 60 % 60, left % 60);
  }
  if (terminal)
    line_->show(collected_, texts_, detail);
  else
    note(std::format("{} of {} {} {}, {}", collected_, texts_, names_.things, names_.done, detail));
}

std::string SharedRun::rate() const {
  return std::format("{:.0f} tok/s", static_cast<double>(tokens_) / seconds_since(begin_));
}

}  // namespace grist::cli
