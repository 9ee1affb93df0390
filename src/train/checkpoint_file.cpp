#include <grist/train/checkpoint_file.hpp>

#include <grist/comm/broadcast_text.hpp>
#include <grist/core/errors.hpp>
#include <grist/core/philox.hpp>
#include <grist/train/checkpoint_piece.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace grist {
namespace {

constexpr const char* version_attribute = "grist_checkpoint";
constexpr Index version = 1;
constexpr const char* texts[] = {"configuration", "config.json"};

}  // namespace

/// A file descriptor of the first rank, for what HDF5 does not do.
class Descriptor {
public:
  Descriptor(const std::filesystem::path& path, int flags)
      : path_(path), fd_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {
    check(fd_, "cannot be written");
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  void sync() const { check(::fsync(fd_), "cannot be synced"); }
  /// Lets the disk begin with what was written so far: where the system keeps all of it back, sync() waits for all.
  void begin_sync() const { (void)::sync_file_range(fd_, 0, 0, SYNC_FILE_RANGE_WRITE); }
  /// Takes the space of so many bytes, where the file system can: a full disk is said before numbers are moved.
  void reserve(std::uint64_t bytes) const {
    int status = 0;
    do status = ::fallocate(fd_, 0, 0, static_cast<off_t>(bytes));
    while (status != 0 && errno == EINTR);
    if (status != 0 && errno != EOPNOTSUPP && errno != ENOSYS) check(-1, "has no space");
  }

private:
  void check(int status, const char* what) const {
    if (status < 0) throw InputError("{}: {}: {}", path_.string(), what, std::strerror(errno));
  }

  std::filesystem::path path_;
  int fd_;
};

namespace {

void write_state(io::Hdf5File& file, const TrainingState& state) {
  file.make_group("/train");
  file.write_attribute("/train", "step", state.step);
  file.write_attribute("/train", "tokens", state.tokens);
  file.write_attribute("/train", "seed", static_cast<std::int64_t>(state.seed));
  for (const auto& [name, value] : state.integers) file.write_attribute("/train", name, value);
  for (const auto& [name, value] : state.reals) file.write_attribute("/train", name, value);
  for (const auto& [name, text] : {std::pair(texts[0], state.configuration), std::pair(texts[1], state.model_config)}) {
    const std::string path = path_of("train", name);
    file.write_text(path, text);
    file.write_attribute(path, "checksum", static_cast<std::int64_t>(hash_name(text)));
  }
}

}  // namespace

std::string path_of(const std::string& group, const std::string& tensor) { return "/" + group + "/" + tensor; }

io::Hdf5File open_checkpoint(const std::filesystem::path& path) {
  auto file = io::Hdf5File::open(path);
  const auto attributes = file.attributes_of("/");
  if (std::ranges::find(attributes, version_attribute) == attributes.end())
    throw InputError("{}: is no checkpoint of grist: '/' lacks the attribute '{}'", path.string(), version_attribute);
  if (const auto found = file.read_integer("/", version_attribute); found != version)
    throw InputError("{}: is a checkpoint of format {}, this grist reads format {}", path.string(), found, version);
  return file;
}

TrainingState read_state(const io::Hdf5File& file) {
  TrainingState state;
  for (const std::string& name : file.attributes_of("/train")) {
    if (file.is_real("/train", name)) state.reals[name] = file.read_real("/train", name);
    else
      state.integers[name] = file.read_integer("/train", name);
  }
  const auto take = [&](const char* name) {
    const auto node = state.integers.extract(name);
    if (node.empty()) throw InputError("{}: '/train' lacks the attribute '{}'", file.path(), name);
    return node.mapped();
  };
  state.step = take("step");
  state.tokens = take("tokens");
  state.seed = static_cast<std::uint64_t>(take("seed"));
  for (const auto& [name, text] :
       {std::pair(texts[0], &state.configuration), std::pair(texts[1], &state.model_config)}) {
    const std::string path = path_of("train", name);
    *text = file.read_text(path);
    if (static_cast<std::int64_t>(hash_name(*text)) != file.read_integer(path, "checksum"))
      throw InputError("{}: '{}' was damaged: its checksum is another", file.path(), path);
  }
  return state;
}

void check_checksum(const io::Hdf5File& file, const std::string& tensor, Index found) {
  if (const Index expected = file.read_integer(tensor, "checksum"); expected != found)
    throw InputError("{}: tensor '{}' was damaged: expected checksum {:016x}, found {:016x}", file.path(), tensor,
                     static_cast<std::uint64_t>(expected), static_cast<std::uint64_t>(found));
}

void together(const Communicator& world, const std::function<void()>& f) {
  std::string text;
  auto code = ExitCode::done;
  try {
    f();
  } catch (const Error& error) {
    text = error.what();
    code = error.code();
  }
  const int first = world.size() - world.all_reduce(code == ExitCode::done ? 0 : world.size() - world.rank(),
                                                    Reduction::max);
  if (first == world.size()) return;
  int shared = static_cast<int>(code);
  world.broadcast(&shared, 1, first);
  text = broadcast_text(world, text, first);
  if (shared == static_cast<int>(ExitCode::bad_input)) throw InputError(text);
  if (shared == static_cast<int>(ExitCode::wrong_usage)) throw UsageError(text);
  throw InternalError(text);
}

CheckpointWriter::CheckpointWriter(const std::filesystem::path& file, const std::vector<FileTensor>& tensors,
                                   const std::vector<GroupHeader>& groups, const TrainingState& state,
                                   const Communicator& world, const std::string& hints)
    : file_(file),
      part_(file.string() + ".part"),
      tensors_(tensors),
      groups_(groups),
      world_(world),
      checksums_(groups.size() * tensors.size()) {
  const bool first = world.rank() == 0;
  together(world, [&] {  // the system's reason is clearer than what MPI-IO makes of it
    if (first) Descriptor(part_, O_WRONLY | O_CREAT | O_TRUNC);
  });
  try {
    together(world, [&] { make(groups, state, hints); });
    together(world, [&] {
      if (!first) return;
      descriptor_ = std::make_unique<Descriptor>(part_, O_WRONLY);
      descriptor_->reserve(hdf5_->bytes());
    });
  } catch (...) {  // no destructor will run
    if (first) ::unlink(part_.c_str());
    throw;
  }
}

CheckpointWriter::~CheckpointWriter() {
  hdf5_.reset();
  if (!finished_ && world_.rank() == 0) ::unlink(part_.c_str());
}

void CheckpointWriter::make(const std::vector<GroupHeader>& groups, const TrainingState& state,
                            const std::string& hints) {
  hdf5_ = std::make_unique<io::Hdf5File>(io::Hdf5File::create(part_, world_.handle(), hints));
  hdf5_->write_attribute("/", version_attribute, version);
  write_state(*hdf5_, state);
  for (const auto& group : groups) {
    hdf5_->make_group("/" + group.name);
    for (const auto& tensor : tensors_) {
      const std::string path = path_of(group.name, tensor.name);
      hdf5_->make_tensor(path, {group.type, tensor.shape});
      hdf5_->write_attribute(path, "checksum", Index{0});
      if (group.name == "model" && tensor.plus_one) hdf5_->write_attribute(path, "plus_one", Index{1});
    }
  }
  hdf5_->flush();
}

void CheckpointWriter::attempt(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error&) {
    if (!failure_) failure_ = std::current_exception();
  }
}

void CheckpointWriter::write(const TensorGroup& group, std::size_t tensor, const std::vector<Run>& runs) {
  const auto& [name, shape, initial, plus_one] = tensors_[tensor];
  const auto number =
      static_cast<std::size_t>(std::ranges::find(groups_, group.name, &GroupHeader::name) - groups_.begin());
  const DType type = groups_.at(number).type;
  const Range held = extent_of(runs, {group.first, group.first + static_cast<Index>(group.values.extent(0))});
  const auto values = Kokkos::create_mirror_view_and_copy(
      Kokkos::HostSpace{}, Kokkos::subview(group.values, std::pair(held.begin - group.first, held.end - group.first)));
  Index& sum = checksums_[number * tensors_.size() + tensor];
  for (const Range& rows : pieces_of(shape)) {
    if (rows.begin > 0) drain();  // no tensor goes into one transfer twice
    const CheckpointPiece piece(runs, shape, rows, held);
    const std::byte* data = nullptr;
    if (const auto place = piece.place(); place && type == DType::f32) {
      data = reinterpret_cast<const std::byte*>(values.data() + *place);
      values_.push_back(std::make_shared<decltype(values)>(values));
    } else {
      auto& packed = packed_.emplace_back(
          std::make_unique_for_overwrite<std::byte[]>(static_cast<std::size_t>(piece.size()) * size_of(type)));
      piece.pack(values.data(), type, packed.get());
      data = packed.get();
    }
    sum = static_cast<Index>(static_cast<std::uint64_t>(sum) + piece.checksum(data, type));
    queue_.push_back({path_of(group.name, name), piece.boxes(), data});
    queued_ += rows.size() * FileMatrix(shape).width;
    if (queued_ >= piece_elements) drain();
  }
}

void CheckpointWriter::drain() {
  attempt([&] { hdf5_->write(queue_); });
  queue_.clear();
  packed_.clear();
  values_.clear();
  queued_ = 0;
  if (descriptor_) descriptor_->begin_sync();
}

void CheckpointWriter::finish(const Exec& exec) {
  const bool first = world_.rank() == 0;
  drain();
  sum_over(exec, world_, checksums_);
  attempt([&] {
    for (std::size_t g = 0; g < groups_.size(); ++g)
      for (std::size_t t = 0; t < tensors_.size(); ++t)
        hdf5_->write_attribute(path_of(groups_[g].name, tensors_[t].name), "checksum",
                               checksums_[g * tensors_.size() + t]);
  });
  attempt([&] { hdf5_->flush(); });
  attempt([&] { hdf5_->close(); });
  together(world_, [&] {
    if (failure_) std::rethrow_exception(failure_);
  });
  together(world_, [&] {
    if (!first) return;
    descriptor_->sync();
    if (::rename(part_.c_str(), file_.c_str()) != 0)
      throw InputError("{}: cannot be renamed: {}", part_.string(), std::strerror(errno));
    const auto folder = file_.parent_path();
    Descriptor(folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY).sync();
  });
  finished_ = true;
}

void sum_over(const Exec& exec, const Communicator& world, std::vector<Index>& values) {
  const Buffer<Index> memory("sums", std::ssize(values));
  const Kokkos::View<Index*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged> host(values.data(), values.size());
  Kokkos::deep_copy(memory.view(), host);
  world.all_reduce(exec, memory.view());
  exec.fence("grist::checkpoint: sums are complete");
  Kokkos::deep_copy(host, memory.view());
}

Range extent_of(const std::vector<Run>& runs, Range held) {
  Range extent{held.end, held.begin};
  for (const Run& run : runs) {
    extent.begin = std::min(extent.begin, std::max(run.offset, held.begin));
    extent.end = std::max(extent.end, std::min(run.offset + (run.columns - 1) * run.stride + 1, held.end));
  }
  return extent.begin < extent.end ? extent : Range{held.begin, held.begin};
}

}  // namespace grist
