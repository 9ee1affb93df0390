#include <grist/model/waiting_panels.hpp>

#include <grist/core/interleaved_rows.hpp>
#include <grist/core/staging.hpp>

#include <algorithm>

namespace grist {

void WaitingPanels::add(Weight& weight, int number, std::shared_ptr<const io::MappedFile> mapping, std::byte* to) {
  const Panel& panel = weight.panel[number];
  const Index bytes = weight.experts * panel.rows * row_bytes(panel.format, weight.columns);
  panels_.push_back({&weight, number, std::move(mapping), to, bytes});
  bytes_ += bytes;
}

void WaitingPanels::interleave_some() {
  Index done = 0;
  while (!empty() && done < bytes_ / 8 + 1) {
    interleave(panels_[next_]);
    done += panels_[next_].bytes;
    ++next_;
  }
}

/// Pages of the file are given back piece by piece, so that a large panel is hardly there twice.
void WaitingPanels::interleave(const Entry& entry) {
  Panel& panel = entry.weight->panel[entry.number];
  const auto* const from = static_cast<const std::byte*>(panel.data);
  const Index columns = entry.weight->columns, group_bytes = interleaved_rows * row_bytes(panel.format, columns);
  const Index groups = entry.bytes / group_bytes;
  const Index piece = std::max<Index>((Index{16} << 20) / group_bytes, HostExec().concurrency());
  for (Index begin = 0; begin < groups; begin += piece) {
    const Index end = std::min(begin + piece, groups);
    Kokkos::parallel_for("grist::parameters::interleave", Indices<HostExec>(begin, end), [&](Index i) {
      grist::interleave(panel.format, from + i * group_bytes, columns, entry.to + i * group_bytes);
    });
    HostExec().fence("grist::parameters: interleaved");
    entry.mapping->release(static_cast<std::uint64_t>(from + begin * group_bytes - entry.mapping->data()),
                           static_cast<std::uint64_t>((end - begin) * group_bytes));
  }
  panel.data = entry.to;
  panel.interleaved = true;
}

}  // namespace grist
