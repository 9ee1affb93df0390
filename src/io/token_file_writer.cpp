#include <grist/io/token_file_writer.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/mapped_file.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

namespace grist::io {
namespace {

constexpr std::size_t most_waiting = 4U << 20U;  // bytes of ids that a kill may cost

std::filesystem::path beside(const std::filesystem::path& file, const char* ending) { return file.string() + ending; }

}  // namespace

GrowingFile::GrowingFile(std::filesystem::path path)
    : path_(std::move(path)), descriptor_(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  struct stat status {};
  if (descriptor_ < 0 || ::fstat(descriptor_, &status) != 0) fail("cannot be made");
  size_ = static_cast<std::uint64_t>(status.st_size);
}

GrowingFile::~GrowingFile() { ::close(descriptor_); }

void GrowingFile::fail(std::string_view what) const {
  throw InputError("{}: {}: {}", path_.string(), what, std::strerror(errno));
}

bool GrowingFile::lock() const {
  return ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;  // some file systems have no locks
}

void GrowingFile::read(std::uint64_t offset, void* data, std::size_t bytes) const {
  for (auto* to = static_cast<char*>(data); bytes > 0;) {
    const auto count = ::pread(descriptor_, to, bytes, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count == 0) errno = ENODATA;
    if (count <= 0) fail("cannot be read");
    to += count;
    offset += static_cast<std::uint64_t>(count);
    bytes -= static_cast<std::size_t>(count);
  }
}

void GrowingFile::write(std::uint64_t offset, const void* data, std::size_t bytes) {
  for (const auto* from = static_cast<const char*>(data); bytes > 0;) {
    const auto count = ::pwrite(descriptor_, from, bytes, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("cannot be written");
    from += count;
    offset += static_cast<std::uint64_t>(count);
    bytes -= static_cast<std::size_t>(count);
  }
  size_ = std::max(size_, offset);
}

void GrowingFile::cut(std::uint64_t bytes) {
  if (::ftruncate(descriptor_, static_cast<off_t>(bytes)) != 0) fail("cannot be cut");
  size_ = bytes;
}

void GrowingFile::sync() const {
  if (::fdatasync(descriptor_) != 0) fail("cannot be written");
}

TokenFileWriter::TokenFileWriter(const std::filesystem::path& file, const TokenOrigin& origin)
    : file_(file),
      origin_(origin),
      ids_file_(beside(file, ".part")),
      ends_file_(beside(file, ".part.ends")),
      mask_file_(beside(file, ".part.mask")) {
  if (!ids_file_.lock()) throw InputError("{}: another process writes it", ids_file_.path().string());
  if (ids_file_.size() >= token_header::bytes) resume();
  write_header(token_header::unfinished, false);
  ids_file_.cut(token_header::bytes + tokens_ * token_header::id_bytes(origin_.vocab_size));
  ends_file_.cut(documents_ * sizeof(std::uint64_t));
  mask_file_.cut((tokens_ + 7) / 8);
  flushed_ = tokens_;
}

TokenFileWriter::~TokenFileWriter() {
  if (closed_) return;
  try {
    flush();
  } catch (const Error&) {  // what was on disk before is continued
  }
  if (documents_ == 0) remove_parts();
}

void TokenFileWriter::remove_parts() const {
  for (const GrowingFile* part : {&ids_file_, &ends_file_, &mask_file_}) ::unlink(part->path().c_str());
}

void TokenFileWriter::write_header(std::string_view magic, bool masked) {
  std::array<std::uint64_t, token_header::bytes / 8> header{};
  std::memcpy(header.data(), magic.data(), 8);
  header[1] = token_header::version | token_header::id_bytes(origin_.vocab_size) << 32;
  header[2] = origin_.vocab_size;
  header[3] = origin_.fingerprint;
  header[4] = documents_;
  header[5] = tokens_;
  header[6] = masked ? 1 : 0;
  header[7] = origin_.sources;
  ids_file_.write(0, header.data(), sizeof(header));
}

/// Finds out how many documents are whole. A document's end is written after its tokens are on disk.
void TokenFileWriter::resume() {
  std::array<std::uint64_t, token_header::bytes / 8> header{};
  ids_file_.read(0, header.data(), sizeof(header));
  const std::string_view magic(reinterpret_cast<const char*>(header.data()), 8);
  const auto id_bytes = token_header::id_bytes(origin_.vocab_size);
  if ((magic != token_header::unfinished && magic != token_header::magic) ||
      header[1] != (token_header::version | id_bytes << 32) || header[2] != origin_.vocab_size ||
      header[3] != origin_.fingerprint || header[7] != origin_.sources) {
    throw InputError("{}: was begun with another tokenizer, other options or other inputs: remove it to start afresh",
                     ids_file_.path().string());
  }
  documents_ = ends_file_.size() / sizeof(std::uint64_t);
  if (documents_ > 0) ends_file_.read((documents_ - 1) * sizeof(std::uint64_t), &tokens_, sizeof(tokens_));
  if (tokens_ > (ids_file_.size() - token_header::bytes) / id_bytes || (tokens_ + 7) / 8 > mask_file_.size()) {
    throw InputError("{}: holds fewer tokens than the {} that {} says: remove it to start afresh",
                     ids_file_.path().string(), tokens_, ends_file_.path().string());
  }
  if (tokens_ % 8 > 0) {
    mask_.push_back(0);
    mask_file_.read(tokens_ / 8, mask_.data(), 1);
  }
}

void TokenFileWriter::append(std::span<const int> ids, std::span<const char> trained) {
  if (!trained.empty() && trained.size() != ids.size())
    throw ShapeError("{}: {} ids with a mask of {}", file_.string(), ids.size(), trained.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto id = static_cast<std::uint32_t>(ids[i]);
    if (id >= origin_.vocab_size)
      throw InternalError("{}: token id {} in a vocabulary of {}", file_.string(), ids[i], origin_.vocab_size);
    const auto bytes = std::bit_cast<std::array<std::byte, sizeof(id)>>(id);
    ids_.insert(ids_.end(), bytes.begin(),
                bytes.begin() + static_cast<std::ptrdiff_t>(token_header::id_bytes(origin_.vocab_size)));
    const std::uint64_t byte = tokens_ / 8 - flushed_ / 8;
    if (byte == mask_.size()) mask_.push_back(0);
    const unsigned bit = trained.empty() || trained[i] != 0 ? 1U << tokens_ % 8 : 0U;
    mask_[byte] = static_cast<unsigned char>(mask_[byte] | bit);
    ++tokens_;
  }
  ends_.push_back(tokens_);
  ++documents_;
  if (ids_.size() >= most_waiting) flush();
}

void TokenFileWriter::flush() {
  if (ends_.empty()) return;
  ids_file_.append(ids_.data(), ids_.size());
  mask_file_.write(flushed_ / 8, mask_.data(), mask_.size());
  ids_file_.sync();
  mask_file_.sync();
  ends_file_.append(ends_.data(), ends_.size() * sizeof(std::uint64_t));
  ids_.clear();
  ends_.clear();
  mask_.erase(mask_.begin(), mask_.end() - (tokens_ % 8 > 0 ? 1 : 0));
  flushed_ = tokens_;
}

bool TokenFileWriter::all_trained() const {
  if (tokens_ == 0) return true;
  const MappedFile mask(mask_file_.path());
  const auto* bytes = reinterpret_cast<const unsigned char*>(mask.data());
  const bool whole = std::all_of(bytes, bytes + tokens_ / 8, [](unsigned char byte) { return byte == 0xFF; });
  return whole && (tokens_ % 8 == 0 || bytes[tokens_ / 8] == (1U << tokens_ % 8) - 1);
}

void TokenFileWriter::append_whole(const GrowingFile& from) {
  std::vector<char> piece(std::min<std::uint64_t>(from.size(), 1U << 20U));
  for (std::uint64_t at = 0; at < from.size(); at += piece.size()) {
    piece.resize(std::min<std::uint64_t>(piece.size(), from.size() - at));
    from.read(at, piece.data(), piece.size());
    ids_file_.append(piece.data(), piece.size());
  }
}

void TokenFileWriter::close() {
  flush();
  constexpr std::array<char, 8> zeros{};
  ids_file_.append(zeros.data(), token_header::padded(ids_file_.size()) - ids_file_.size());
  append_whole(ends_file_);
  const bool masked = !all_trained();
  if (masked) append_whole(mask_file_);
  ids_file_.sync();
  write_header(token_header::magic, masked);
  ids_file_.sync();
  if (std::rename(ids_file_.path().c_str(), file_.c_str()) != 0)
    throw InputError("{}: cannot be written: {}", file_.string(), std::strerror(errno));
  closed_ = true;
  ::unlink(ends_file_.path().c_str());
  ::unlink(mask_file_.path().c_str());
}

}  // namespace grist::io
