// Every error that grist raises on purpose, with the exit code that the command line gives it.
#pragma once

#include <format>
#include <stdexcept>
#include <string>
#include <utility>

namespace grist {

/// Exit codes of the program.
enum class ExitCode : int {
  done = 0,
  failed = 1,
  wrong_usage = 2,
  bad_input = 3,
  out_of_memory = 4,
  numerical_failure = 5,
};

/// One clear line: what was wrong, where, what was expected and what was found.
class Error : public std::runtime_error {
public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  [[nodiscard]] ExitCode code() const noexcept { return code_; }

private:
  ExitCode code_;
};

template <ExitCode Code>
class ErrorOf : public Error {
public:
  explicit ErrorOf(const std::string& message) : Error(Code, message) {}

  template <class First, class... Rest>
  explicit ErrorOf(std::format_string<First, Rest...> text, First&& first, Rest&&... rest)
      : Error(Code, std::format(text, std::forward<First>(first), std::forward<Rest>(rest)...)) {}
};

using InternalError = ErrorOf<ExitCode::failed>;           // MPI, a vendor library, or our own mistake
using UsageError = ErrorOf<ExitCode::wrong_usage>;         // options and layouts that cannot be
using InputError = ErrorOf<ExitCode::bad_input>;           // files and texts that cannot be read
using MemoryError = ErrorOf<ExitCode::out_of_memory>;      // what does not fit, with the sizes
using NumericalError = ErrorOf<ExitCode::numerical_failure>;

/// Operands whose shapes do not agree: a mistake of the calling code.
class ShapeError : public InternalError {
public:
  using InternalError::InternalError;
};

}  // namespace grist
