// Reads the metadata of a GGUF file key by key and remembers which keys of its architecture were understood.
#pragma once

#include <grist/core/errors.hpp>
#include <grist/io/gguf.hpp>

#include <initializer_list>
#include <set>
#include <string>
#include <string_view>

namespace grist {

/// Names are given without the architecture in front. Wrong types and missing keys are InputErrors that name file and
/// key.
class GgufReader {
public:
  /// `gguf` must outlive the reader.
  GgufReader(const io::Gguf& gguf, std::string_view architecture)
      : gguf_(gguf), prefix_(std::string(architecture) + ".") {}

  template <class T>
  T get(std::string_view name) {
    return gguf_.get<T>(note(name));
  }
  template <class T>
  T get_or(std::string_view name, T otherwise) {
    return gguf_.get_or<T>(note(name), std::move(otherwise));
  }
  /// An integer of at least 1 that fits an int.
  int positive(std::string_view name);
  int positive_or(std::string_view name, int otherwise);
  /// An integer of at least 0 that fits an int.
  int count_or(std::string_view name, int otherwise);
  /// Throws InputError where a key is there and not this number.
  void expect(std::string_view name, std::int64_t number);

  /// Keys that say nothing about the mathematics.
  void ignore(std::initializer_list<std::string_view> names);
  /// Throws InputError listing every key of the architecture that nobody asked for.
  void finish() const;

  [[nodiscard]] const io::Weights& weights() const { return gguf_.weights; }
  [[nodiscard]] const std::string& file() const { return gguf_.path; }

private:
  std::string note(std::string_view name) { return *seen_.insert(prefix_ + std::string(name)).first; }
  [[nodiscard]] int checked(std::string_view name, std::int64_t value, int least) const;

  const io::Gguf& gguf_;
  std::string prefix_;
  std::set<std::string, std::less<>> seen_;
};

}  // namespace grist
