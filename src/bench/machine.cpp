#include <grist/bench/machine.hpp>

#include <grist/backends/device.hpp>
#include <grist/backends/gemm.hpp>
#include <grist/backends/rates.hpp>
#include <grist/bench/timing.hpp>
#include <grist/core/clock.hpp>
#include <grist/core/errors.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <format>
#include <vector>

namespace grist::bench {
namespace {

constexpr int rounds = 4;  // of which the best counts; the first one warms a device up

/// Of all ranks together: each measures its share while the others do.
template <class F>
double best_sum(const Communicator& ranks, F&& measure) {
  double best = 0;
  for (int round = 0; round < rounds; ++round) {
    ranks.barrier();
    best = std::max(best, ranks.all_reduce(static_cast<double>(measure())));
  }
  return best;
}

/// Seconds of a message from the first rank to the second and back, halved; the best of many.
double message_time(const Exec& exec, const Communicator& ranks, Index bytes, int repetitions) {
  const Buffer<float> message("message", bytes / static_cast<Index>(sizeof(float)));
  Kokkos::deep_copy(exec, message.view(), 0.0F);
  double best = 1e300;
  for (int i = 0; i < repetitions; ++i) {
    const double seconds = timed(exec, ranks, [&] {
      if (ranks.rank() == 0) {
        ranks.send(exec, as_const(message.view()), 1);
        ranks.recv(exec, message.view(), 1);
      } else if (ranks.rank() == 1) {
        ranks.recv(exec, message.view(), 0);
        ranks.send(exec, as_const(message.view()), 0);
      }
    });
    best = std::min(best, seconds / 2);
  }
  return best;
}

/// An open file, for transfers of which each is checked.
class File {
public:
  File(const std::filesystem::path& path, int flags) : path_(path), descriptor_(open(path.c_str(), flags, 0600)) {
    if (descriptor_ < 0) fail("opened");
  }
  ~File() { close(descriptor_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  [[nodiscard]] int descriptor() const { return descriptor_; }
  [[noreturn]] void fail(const char* what) const {
    throw InputError("{}: cannot be {}: {}", path_.string(), what, std::strerror(errno));
  }

private:
  std::filesystem::path path_;
  int descriptor_;
};

}  // namespace

std::string utc_time() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

Machine measure_machine(const Exec& exec, const Communicator& ranks) {
  Machine machine;
  const Communicator node = ranks.split_by_node();
  const int sharers = node.split(memory_hash(device_facts()), node.rank()).size();
  {
    ReadBandwidth bandwidth(exec, sharers);
    machine.read = best_sum(ranks, [&] { return bandwidth.measure(); });
  }
  {
    Triad triad(exec, sharers);
    machine.triad = best_sum(ranks, [&] { return triad.measure(); });
  }
  for (const DType type : {DType::f32, DType::bf16}) {
    double mine = 0;
    for (const auto provider : gemm_providers()) {
      ranks.barrier();
      if (provider == "portable" && mine > 0) continue;  // it serves what others decline
      mine = std::max(mine, gemm_rate(exec, *make_gemm(provider), type));
    }
    (type == DType::f32 ? machine.gemm_f32 : machine.gemm_bf16) = ranks.all_reduce(mine);
  }
  ranks.barrier();
  if (const double int8 = ranks.all_reduce(int8_rate(exec)); int8 > 0) machine.gemm_int8 = int8;
  if (ranks.size() > 1) {
    machine.mpi_latency = message_time(exec, ranks, sizeof(float), 50);
    machine.mpi_bandwidth = 0;
    for (const Index megabytes : {1, 4, 16}) {  // caches and protocols make one size the fastest
      const Index bytes = megabytes << 20;
      machine.mpi_bandwidth = std::max(*machine.mpi_bandwidth,
                                       static_cast<double>(bytes) / message_time(exec, ranks, bytes, 10));
    }
  }
  return machine;
}

DiskFile::DiskFile(std::filesystem::path path, std::uint64_t bytes)
    : path_(std::move(path)), bytes_(bytes), block_(4 << 20) {
  for (std::size_t i = 0; i < block_.size(); ++i) block_[i] = static_cast<char>(i * 2654435761U >> 13);
}

DiskFile::~DiskFile() { unlink(path_.c_str()); }

void DiskFile::write() const {
  const File file(path_, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC);
  for (std::uint64_t done = 0; done < bytes_;) {
    const auto written =
        ::write(file.descriptor(), block_.data(), std::min<std::uint64_t>(block_.size(), bytes_ - done));
    if (written <= 0) file.fail("written");
    done += static_cast<std::uint64_t>(written);
  }
  if (fsync(file.descriptor()) != 0) file.fail("written");
}

void DiskFile::read() {
  forget(path_);
  const File file(path_, O_RDONLY | O_CLOEXEC);
  for (std::uint64_t done = 0; done < bytes_;) {
    const auto got = ::read(file.descriptor(), block_.data(), block_.size());
    if (got <= 0) file.fail("read");
    done += static_cast<std::uint64_t>(got);
  }
}

void forget(const std::filesystem::path& path) {
  const File file(path, O_RDONLY | O_CLOEXEC);
  posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_DONTNEED);
}

}  // namespace grist::bench
