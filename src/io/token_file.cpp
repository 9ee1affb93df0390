#include <grist/io/token_file.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/mapped_file.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <utility>

namespace grist::io {
namespace {

constexpr std::uint64_t header_bytes = token_header::bytes;

/// Tokens in memory, with the end of their one document.
struct InMemory {
  std::vector<std::uint32_t> ids;
  std::uint64_t end;
};

}  // namespace

TokenFile::TokenFile(const std::filesystem::path& file) : name_(file.string()) {
  const auto mapped = std::make_shared<const MappedFile>(file);
  const std::uint64_t size = mapped->size();
  const std::string_view magic(reinterpret_cast<const char*>(mapped->data()), std::min<std::uint64_t>(size, 8));
  if (magic == token_header::unfinished)
    throw InputError("{}: is unfinished: the `grist tokenize` that began it continues it", name_);
  if (size < header_bytes || magic != token_header::magic) {
    throw InputError("{}: is no token file: expected {} and {} bytes of header, found {} bytes", name_,
                     token_header::magic, header_bytes, size);
  }
  const auto number = [&](std::uint64_t at) { return load<std::uint64_t>(mapped->data() + at); };
  const auto version = load<std::uint32_t>(mapped->data() + 8);
  if (version != token_header::version)
    throw InputError("{}: has version {} of token files, expected {}", name_, version, token_header::version);
  id_bytes_ = load<std::uint32_t>(mapped->data() + 12);
  origin_ = {.vocab_size = number(16), .fingerprint = number(24), .sources = number(56)};
  documents_ = number(32);
  tokens_ = number(40);
  const std::uint64_t flags = number(48);
  if (id_bytes_ != token_header::id_bytes(origin_.vocab_size) || origin_.vocab_size > 1ULL << 31)
    throw InputError("{}: has ids of {} bytes for a vocabulary of {}", name_, id_bytes_, origin_.vocab_size);
  if (flags > 1) throw InputError("{}: has the flags {:#x}, expected 0 or 1", name_, flags);
  // Limits that no honest number passes, so that the sum below cannot wrap around.
  const bool sane = documents_ <= size && tokens_ <= size;
  const std::uint64_t ends_at = sane ? header_bytes + token_header::padded(tokens_ * id_bytes_) : 0;
  const std::uint64_t mask_at = ends_at + documents_ * sizeof(std::uint64_t);
  const std::uint64_t expected = mask_at + (flags == 1 ? (tokens_ + 7) / 8 : 0);
  if (!sane || size != expected) {
    throw InputError("{}: {} bytes for {} documents and {} tokens{}", name_, size, documents_, tokens_,
                     sane ? std::format(", expected {}: {}", expected, size < expected ? "truncated" : "more follows")
                          : ": truncated");
  }
  ids_ = mapped->data() + header_bytes;
  ends_ = mapped->data() + ends_at;
  mask_ = flags == 1 ? mapped->data() + mask_at : nullptr;
  owner_ = mapped;
  check_ends();
}

TokenFile::TokenFile(std::string name, const TokenOrigin& origin, const std::vector<int>& ids)
    : name_(std::move(name)), origin_(origin), documents_(1), tokens_(ids.size()) {
  const auto memory = std::make_shared<const InMemory>(InMemory{{ids.begin(), ids.end()}, ids.size()});
  ids_ = reinterpret_cast<const std::byte*>(memory->ids.data());
  ends_ = reinterpret_cast<const std::byte*>(&memory->end);
  owner_ = memory;
}

void TokenFile::check_ends() const {
  std::uint64_t before = 0;
  for (std::uint64_t d = 0; d < documents_; ++d) {
    const std::uint64_t end = document_begin(d + 1);
    if (end < before || end > tokens_) {
      throw InputError("{}: document {} ends at token {}, expected from {} to {}", name_, d, end, before, tokens_);
    }
    before = end;
  }
  if (before != tokens_)
    throw InputError("{}: the last document ends at token {}, expected {}", name_, before, tokens_);
}

std::uint64_t TokenFile::document_begin(std::uint64_t document) const {
  return document == 0 ? 0 : load<std::uint64_t>(ends_ + (document - 1) * sizeof(std::uint64_t));
}

bool TokenFile::trained(std::uint64_t token) const {
  return mask_ == nullptr || (std::to_integer<unsigned>(mask_[token / 8]) >> token % 8 & 1U) != 0;
}

void TokenFile::read(std::uint64_t first, std::span<int> ids) const {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::byte* from = ids_ + (first + i) * id_bytes_;
    const std::uint32_t id = id_bytes_ == 2 ? load<std::uint16_t>(from) : load<std::uint32_t>(from);
    if (id >= origin_.vocab_size) {
      throw InputError("{}: token {} has the id {}, expected less than the vocabulary's {}", name_, first + i, id,
                       origin_.vocab_size);
    }
    ids[i] = static_cast<int>(id);
  }
}

bool is_token_file(const std::filesystem::path& file) {
  if (file.extension() == ".tokens") return true;
  std::array<char, 8> begin{};
  std::ifstream(file, std::ios::binary).read(begin.data(), begin.size());
  const std::string_view magic(begin.data(), begin.size());
  return magic == token_header::magic || magic == token_header::unfinished;
}

}  // namespace grist::io
