#include "shared_run.hpp"

#include "interrupt.hpp"
#include "packed_json.hpp"
#include "train_options.hpp"

#include <grist/comm/broadcast_text.hpp>
#include <grist/core/clock.hpp>

#include <nlohmann/json.hpp>

#include <unistd.h>

#include <algorithm>
#include <deque>
#include <iterator>
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

SharedRun::SharedRun(const Communicator& world, const Communicator& replica, std::span<const std::string> items,
                     Index at_most, const Deadline& deadline, WorkProgress::Names names, OnResult on_result)
    : world_(world),
      replica_(replica),
      work_(world, items),
      results_(world),
      deadline_(deadline),
      on_result_(std::move(on_result)),
      root_(world.rank() == 0),
      progress_(names, items.size(), at_most,
                terminal_ ? Clock::duration(std::chrono::milliseconds(200)) : std::chrono::seconds(60), Clock::now()),
      line_(std::in_place, names.done, root_),
      replicas_left_(world.size() / replica.size()) {}

std::optional<std::vector<std::string>> SharedRun::take(std::size_t wanted, bool wait) {
  pass_on_stop();
  std::vector<std::string> items;
  bool stopped = false;
  if (replica_.rank() == 0) {
    items = work_.take(wanted);
    while (wait && items.empty() && !work_.done() && !work_.stopped()) {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
      pass_on_stop();
      items = work_.take(wanted);
    }
    stopped = work_.stopped();
  }
  if (replica_.size() > 1) {
    const bool news = stopped || !items.empty();
    const auto told = broadcast_text(
        replica_, replica_.rank() == 0 && news ? packed({{"stop", stopped}, {"items", items}}) : "", 0);
    if (!told.empty()) {
      const json all = unpacked(told);
      all.at("stop").get_to(stopped);
      all.at("items").get_to(items);
    }
  }
  if (stopped) return std::nullopt;
  return items;
}

void SharedRun::send(const std::string& result, Index at_most, Index took) {
  send_counted({{"result", result}, {"at_most", at_most}, {"took", took}});
}

/// A message of this replica to rank 0, with the tokens since the last one.
void SharedRun::send_counted(json&& message) {
  if (replica_.rank() != 0) return;
  const auto tokens = std::exchange(unsent_, {});
  message["worked_on"] = tokens.worked_on;
  message["told"] = tokens.told;
  results_.send(packed(message));
  sent_ = Clock::now();
}

void SharedRun::one_by_one(const std::function<void(const std::string& item)>& work) {
  std::deque<std::string> mine;
  for (auto more = take(2, true); more; more = take(2 - mine.size(), mine.empty())) {
    std::ranges::move(*more, std::back_inserter(mine));
    if (mine.empty()) break;
    const auto begin = Clock::now();
    work(mine.front());
    mine.pop_front();
    stepped(seconds_since(begin));
  }
}

void SharedRun::stepped(double seconds) {
  deadline_.stepped(seconds);
  if (Clock::now() - sent_ > std::chrono::milliseconds(500)) send_counted({});
  poll();
}

bool SharedRun::finish() {
  send_counted({{"last", true}});
  // Until the last replica has left, a signal to any rank is one to all.
  while (root_ ? replicas_left_ > 0 : !work_.closed()) {
    pass_on_stop();
    poll();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  if (root_) work_.close();
  results_.flush();
  int all = progress_.all_done() ? 1 : 0;
  world_.broadcast(&all, 1, 0);
  line_.reset();
  if (root_ && terminal_) note(progress_.sum(Clock::now()));
  return all != 0;
}

/// Tells all ranks to stop where a signal came to this one or its time is over.
void SharedRun::pass_on_stop() {
  if (stop_sent_ || !(Interrupt::came() || deadline_.reached(Clock::now()))) return;
  work_.stop();
  stop_sent_ = true;
}

/// Takes in what others said.
void SharedRun::poll() {
  work_.poll();
  if (!root_) return;
  for (const auto& bytes : results_.receive()) {
    const json message = unpacked(bytes);
    progress_.add({message.at("worked_on"), message.at("told")});
    if (message.contains("last")) --replicas_left_;
    if (!message.contains("result")) continue;
    on_result_(message.at("result").get_ref<const std::string&>());
    progress_.finish(message.at("at_most"), message.at("took"));
  }
  report();
}

/// On a terminal a line that changes; elsewhere one now and then.
void SharedRun::report() {
  const auto now = Clock::now();
  if (!progress_.due(now)) return;
  if (terminal_)
    line_->show(static_cast<std::uint64_t>(progress_.worked_on()), static_cast<std::uint64_t>(progress_.expected()),
                progress_.pace(now));
  else
    note(progress_.line(now));
}

}  // namespace grist::cli
