#include <grist/bench/messages.hpp>

#include <grist/bench/roofline.hpp>
#include <grist/bench/timing.hpp>

namespace grist::bench {
namespace {

constexpr int calls = 10;  // in one repetition, which clocks and barriers then do not distort

}  // namespace

void measure_messages(const Exec& exec, const Communicator& ranks, const Machine& machine, int repetitions,
                      const std::function<void(const Test&)>& take) {
  for (const Index kilobytes : {4, 64, 1024, 16384}) {
    const Index bytes = kilobytes << 10;
    // A piece for each rank, so that what is gathered is whole.
    const Index piece = bytes / static_cast<Index>(sizeof(float)) / ranks.size(), count = piece * ranks.size();
    if (piece == 0) continue;
    const Buffer<float> buffer("message", count);
    Kokkos::deep_copy(exec, buffer.view(), 0.0F);
    const auto all = buffer.view();
    const View1<const float> mine(buffer.data() + ranks.rank() * piece, static_cast<std::size_t>(piece));
    const auto there_and_back = [&] {
      if (ranks.rank() == 0) ranks.send(exec, as_const(all), 1), ranks.recv(exec, all, 1);
      if (ranks.rank() == 1) ranks.recv(exec, all, 0), ranks.send(exec, as_const(all), 0);
    };
    const double size = static_cast<double>(count) * sizeof(float);
    const auto measure = [&](const char* name, Message kind, int messages, const std::function<void()>& f) {
      const double limit =
          message_seconds(kind, size, ranks.size(), *machine.mpi_latency, *machine.mpi_bandwidth);
      Test test{.name = std::format("{} {} KiB", name, kilobytes),
                .unit = "bytes",
                .amount = calls * messages * size,
                .limit_seconds = calls * messages * limit,
                .limit_name = "mpi",
                .time = utc_time()};
      for (int i = 0; i <= repetitions; ++i) {  // the first one warms up
        const double seconds = timed(exec, ranks, [&] {
          for (int call = 0; call < calls; ++call) f();
        });
        if (i > 0) test.seconds.push_back(seconds);
      }
      take(test);
    };
    measure("all_reduce", Message::all_reduce, 1, [&] { ranks.all_reduce(exec, all); });
    measure("all_gather", Message::all_gather, 1, [&] { ranks.all_gather(exec, mine, all); });
    measure("send/recv", Message::send, 2, there_and_back);
  }
}

}  // namespace grist::bench
