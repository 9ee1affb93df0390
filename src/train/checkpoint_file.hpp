// The HDF5 file of a checkpoint: its groups, attributes and texts.
#pragma once

#include <grist/hdf5/hdf5_file.hpp>
#include <grist/train/checkpoint.hpp>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace grist {

/// What a file will hold in a group.
struct GroupHeader {
  std::string name;
  DType type;
};

/// Path of a tensor in the file.
std::string path_of(const std::string& group, const std::string& tensor);

/// Opens for reading. Throws InputError where the file is no checkpoint, or one of a later format.
io::Hdf5File open_checkpoint(const std::filesystem::path& file);
TrainingState read_state(const io::Hdf5File& file);
/// Throws InputError where a tensor has another checksum than the one found in its numbers.
void check_checksum(const io::Hdf5File& file, const std::string& tensor, Index found);

/// What failed on any rank fails on all, with the first such rank's words; `f` may communicate.
void together(const Communicator& world, const std::function<void()>& f);

class Descriptor;

/// A file in the making, over all ranks of a communicator. What one rank cannot write is told by finish(), on all.
class CheckpointWriter {
public:
  CheckpointWriter(const std::filesystem::path& file, const std::vector<FileTensor>& tensors,
                   const std::vector<GroupHeader>& groups, const TrainingState& state, const Communicator& world,
                   const std::string& hints);
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Takes this rank's runs of a tensor, those in the range of the flat array that `values` are, which are read until
  /// drain() or finish(). All ranks call it.
  void write(const TensorGroup& group, std::size_t tensor, const std::vector<Run>& runs);
  /// Writes what is queued, and lets the disk begin with it. All ranks call it.
  void drain();
  /// Writes the checksums, syncs, and gives the file its name.
  void finish(const Exec& exec);

private:
  void make(const std::vector<GroupHeader>& groups, const TrainingState& state, const std::string& hints);
  void attempt(const std::function<void()>& f);

  std::filesystem::path file_, part_;
  std::vector<FileTensor> tensors_;
  std::vector<GroupHeader> groups_;
  const Communicator& world_;
  std::unique_ptr<io::Hdf5File> hdf5_;
  std::unique_ptr<Descriptor> descriptor_;  // of the first rank
  std::vector<Index> checksums_;  // [groups, tensors] of what this rank wrote
  std::vector<io::Hdf5Part> queue_;  // parts of the same tensors on every rank, written at once
  std::vector<std::unique_ptr<std::byte[]>> packed_;
  std::vector<std::shared_ptr<const void>> values_;  // on the host, what is queued as it lies there
  Index queued_ = 0;  // elements of the tensors' rows, over all ranks
  std::exception_ptr failure_;
  bool finished_ = false;
};

/// Sums over all ranks.
void sum_over(const Exec& exec, const Communicator& world, std::vector<Index>& values);

/// The elements of the flat array from the first to the last of the runs, of those in `held`.
Range extent_of(const std::vector<Run>& runs, Range held);

}  // namespace grist
