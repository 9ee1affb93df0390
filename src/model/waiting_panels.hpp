// Panels that kernels read where the file is mapped until their rows lie interleaved in a copy.
#pragma once

#include <grist/core/weight.hpp>
#include <grist/io/mapped_file.hpp>

#include <memory>
#include <vector>

namespace grist {

/// Interleaving takes longer than a short prompt's pass, and results have the same bits before and after it: the first
/// answer does not wait for it.
class WaitingPanels {
public:
  /// `weight.panel[number]`, whose rows lie in the mapping, will lie at `to`, a panel's bytes. The weight must stay
  /// where it is in memory.
  void add(Weight& weight, int number, std::shared_ptr<const io::MappedFile> mapping, std::byte* to);

  [[nodiscard]] bool empty() const { return next_ == panels_.size(); }

  /// Interleaves the next panels, at least an eighth of all bytes, so that several passes share what it takes. No
  /// kernel may run.
  void interleave_some();

private:
  struct Entry {
    Weight* weight;
    int number;
    std::shared_ptr<const io::MappedFile> mapping;
    std::byte* to;
    Index bytes;
  };
  static void interleave(const Entry& entry);

  std::vector<Entry> panels_;
  std::size_t next_ = 0;
  Index bytes_ = 0;  // of all panels
};

}  // namespace grist
