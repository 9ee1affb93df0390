// Runs a fuzzer where the compiler has no libFuzzer: the seeds, then mutations of them, the same in every run.
//   fuzz_NAME ROUNDS SEED_FILE...
// With clang a fuzzer needs no driver: compile it with -fsanitize=fuzzer.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

class Mutator {
public:
  explicit Mutator(std::vector<std::string> seeds) : seeds_(std::move(seeds)) {}

  /// A seed after one to four changes.
  std::string next() {
    std::string bytes = seed();
    for (std::size_t changes = 1 + below(4); changes > 0; --changes) change(bytes);
    return bytes;
  }

private:
  std::size_t below(std::size_t count) { return count == 0 ? 0 : static_cast<std::size_t>(random_() % count); }
  /// More often near the front, where headers are.
  std::size_t place(const std::string& bytes) { return below(bytes.size() >> below(8)); }
  const std::string& seed() { return seeds_[below(seeds_.size())]; }

  /// Numbers at which something changes.
  std::uint64_t number() {
    static constexpr std::array<std::uint64_t, 16> edges = {
        0, 1, 2, 3, 8, 32, 255, 256, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 1ULL << 62, 1ULL << 63, ~0ULL};
    return edges[below(edges.size())] + below(3) - 1;
  }

  void change(std::string& bytes) {
    const std::size_t at = place(bytes);
    const std::size_t length = below(std::min<std::size_t>(bytes.size() - at, 64));
    switch (below(8)) {
      case 0:
        if (!bytes.empty()) bytes[at] = static_cast<char>(bytes[at] ^ 1 << below(8));
        break;
      case 1:
        if (!bytes.empty()) bytes[at] = static_cast<char>(below(256));
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.erase(at, length);
        break;
      case 4:
        bytes.insert(at, bytes.substr(at, length));
        break;
      case 5: {  // the front of one, the end of another
        const std::string& other = seed();
        bytes = bytes.substr(0, at) + other.substr(place(other));
        break;
      }
      case 6: {  // a binary number
        const std::uint64_t value = number();
        const std::size_t width = std::size_t{1} << below(4);
        for (std::size_t i = 0; i < width && at + i < bytes.size(); ++i)
          bytes[at + i] = static_cast<char>(value >> 8 * i);
        break;
      }
      case 7: {  // a decimal number
        const std::size_t begin = bytes.find_first_of("0123456789", at);
        if (begin == std::string::npos) break;
        const std::size_t end = std::min(bytes.find_first_not_of("0123456789", begin), bytes.size());
        bytes.replace(begin, end - begin, (below(8) == 0 ? "-" : "") + std::to_string(number()));
        break;
      }
    }
  }

  std::vector<std::string> seeds_;
  std::mt19937_64 random_{20240229};
};

void run(const std::string& bytes) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> seeds;
  for (int i = 2; i < argc; ++i) {
    std::ifstream in(argv[i], std::ios::binary);
    if (!in) return std::fprintf(stderr, "%s: cannot be opened\n", argv[i]), 2;
    seeds.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  if (seeds.empty()) return std::fprintf(stderr, "usage: %s ROUNDS SEED_FILE...\n", argv[0]), 2;
  for (const std::string& seed : seeds) run(seed);
  Mutator mutator(std::move(seeds));
  const long rounds = std::strtol(argv[1], nullptr, 10);
  for (long round = 0; round < rounds; ++round) run(mutator.next());
  std::printf("%ld rounds\n", rounds);
  return 0;
}
