// Writes token files (token_file.hpp): streamed, continued after an interruption, whole or absent under their name.
#pragma once

#include <grist/io/token_file.hpp>

#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace grist::io {

/// A file that grows at its end, made where it is absent. Every call throws InputError naming it and the system's
/// reason.
class GrowingFile {
public:
  explicit GrowingFile(std::filesystem::path path);
  ~GrowingFile();
  GrowingFile(const GrowingFile&) = delete;
  GrowingFile& operator=(const GrowingFile&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  /// False where another process has it.
  [[nodiscard]] bool lock() const;
  void read(std::uint64_t offset, void* data, std::size_t bytes) const;
  void write(std::uint64_t offset, const void* data, std::size_t bytes);
  void append(const void* data, std::size_t bytes) { write(size_, data, bytes); }
  void cut(std::uint64_t bytes);
  void sync() const;

private:
  [[noreturn]] void fail(std::string_view what) const;

  std::filesystem::path path_;
  int descriptor_;
  std::uint64_t size_ = 0;
};

/// Writes a token file, document by document. What a writer before it left of the same documents is continued.
class TokenFileWriter {
public:
  /// Throws InputError where the file cannot be written, where another process writes it, and where what is there was
  /// begun from other sources.
  TokenFileWriter(const std::filesystem::path& file, const TokenOrigin& origin);
  /// Leaves FILE.part, to be continued.
  ~TokenFileWriter();
  TokenFileWriter(const TokenFileWriter&) = delete;
  TokenFileWriter& operator=(const TokenFileWriter&) = delete;

  /// How many are written: the next document has this number.
  [[nodiscard]] std::uint64_t documents() const { return documents_; }
  [[nodiscard]] std::uint64_t tokens() const { return tokens_; }
  /// `trained` has a number for each id, 0: not trained on; empty: all are. Throws InputError where the disk is full.
  void append(std::span<const int> ids, std::span<const char> trained);
  /// On disk is now what was appended. Called by itself every few megabytes.
  void flush();
  /// Finishes the file and gives it its name. Call it last.
  void close();

private:
  void write_header(std::string_view magic, bool masked);
  void resume();
  [[nodiscard]] bool all_trained() const;
  /// Appends a file that is beside to the one that stays.
  void append_whole(const GrowingFile& from);
  void remove_parts() const;

  std::filesystem::path file_;
  TokenOrigin origin_;
  GrowingFile ids_file_, ends_file_, mask_file_;
  std::uint64_t documents_ = 0;
  std::uint64_t tokens_ = 0;
  std::uint64_t flushed_ = 0;  // tokens on disk
  std::vector<std::byte> ids_{};
  std::vector<std::uint64_t> ends_{};
  std::vector<unsigned char> mask_{};  // from the byte on that token `flushed_` has a bit in
  bool closed_ = false;
};

}  // namespace grist::io
