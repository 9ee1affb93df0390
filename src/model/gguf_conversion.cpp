#include <grist/model/gguf_conversion.hpp>

#include <grist/core/errors.hpp>
#include <grist/core/quantize.hpp>
#include <grist/io/gguf.hpp>
#include <grist/model/gguf_settings.hpp>
#include <grist/model/part_reader.hpp>
#include <grist/model/tensor_table.hpp>

#include <algorithm>
#include <array>
#include <map>
#include <system_error>
#include <utility>

namespace grist {
namespace {

namespace fs = std::filesystem;

constexpr Index piece_bytes = Index{16} << 20;

bool has_whole_blocks(Format format, Index columns) { return columns % block_of(format).elements == 0; }

/// Chooses the types of tensors, and remembers what is to be told of them.
class Types {
public:
  Types(Format wanted, std::string architecture, Index experts, bool tied)
      : wanted_(wanted), architecture_(std::move(architecture)), experts_(experts), tied_(tied) {}

  /// `stored`: what it is in the source, and stays where it is not quantized.
  Format of(const std::string& name, Index rows, Index columns, Format stored) {
    if (rows < 2 || !is_quantized(name)) return stored;
    const Format best = best_of(name, columns);
    const Format chosen = with_whole_blocks(best, columns);
    if (chosen != best) ++fallbacks_[{best, chosen}].first, fallbacks_[{best, chosen}].second = name;
    if (block_of(stored).elements > 1 && stored != chosen) ++requantized_[stored];
    return chosen;
  }

  [[nodiscard]] ConversionNotes notes() const {
    ConversionNotes lines;
    for (const auto& [types, tensors] : fallbacks_)
      lines.push_back(std::format("{} tensors, {} for one, became {}: their rows are no whole blocks of {} {}",
                                  tensors.first, tensors.second, name_of(types.second),
                                  block_of(types.first).elements, name_of(types.first)));
    for (const auto& [format, tensors] : requantized_)
      lines.push_back(std::format("{} tensors were {} before: the errors of both add up; start from f32, f16 or bf16 "
                                  "where you can", tensors, name_of(format)));
    return lines;
  }

private:
  /// Where a matrix is none that llama-quantize quantizes.
  static bool is_quantized(std::string_view name) {
    return name.ends_with("weight") && !name.ends_with("_norm.weight") && !name.ends_with("ffn_gate_inp.weight") &&
           name != "position_embd.weight";
  }

  [[nodiscard]] Format best_of(std::string_view name, Index columns) const {
    if (name == "output.weight" || (tied_ && name == "token_embd.weight")) {
      const bool eight = wanted_ == Format::q8_0 || architecture_ == "falcon" || !has_whole_blocks(wanted_, columns);
      return eight ? Format::q8_0 : Format::q6_k;
    }
    const bool kv = name.ends_with("attn_k.weight") || name.ends_with("attn_v.weight") ||
                    name.ends_with("attn_qkv.weight");
    return experts_ == 8 && kv ? Format::q8_0 : wanted_;
  }

  static Format with_whole_blocks(Format format, Index columns) {
    if (has_whole_blocks(format, columns)) return format;
    if (has_whole_blocks(Format::q8_0, columns)) return format == Format::q4_k ? Format::q5_0 : Format::q8_0;
    return Format::f16;
  }

  Format wanted_;
  std::string architecture_;
  Index experts_;
  bool tied_;
  std::map<std::pair<Format, Format>, std::pair<int, std::string>> fallbacks_;
  std::map<Format, int> requantized_;
};

/// What llama.cpp calls a file of mostly this type.
std::uint32_t file_type_of(Format type) {
  switch (type) {
    case Format::q4_0:
      return 2;
    case Format::q8_0:
      return 7;
    case Format::q4_k:
      return 14;  // its smaller mixture
    case Format::q6_k:
      return 18;
    default:
      throw UsageError("models are not written as {}: known are q8_0, q4_0, q4_k and q6_k", name_of(type));
  }
}

void set_file_type(io::GgufWriter& writer, Format type) {
  writer.set("general.file_type", file_type_of(type));
  writer.set("general.quantization_version", std::uint32_t{2});
}

void refuse_existing(const fs::path& file) {
  if (fs::exists(file)) throw UsageError("{}: is already there; choose another name", file.string());
}

InputError not_finite(const std::string& file, const std::string& tensor, Format format) {
  return InputError("{}: tensor '{}' holds a number that is not finite or too large for {}", file, tensor,
                    name_of(format));
}

/// f(first row, rows) for pieces of a matrix of so many bytes a row.
template <class F>
void each_piece(Index rows, Index bytes, F&& f) {
  const Index most = std::max<Index>(1, piece_bytes / bytes);
  for (Index begin = 0; begin < rows; begin += most) f(begin, std::min(most, rows - begin));
}

class Told {
public:
  Told(const Progress& progress, std::uint64_t total) : progress_(progress), total_(total) {}
  void add(std::uint64_t bytes) {
    done_ += bytes;
    if (progress_) progress_(done_, total_);
  }

private:
  const Progress& progress_;
  std::uint64_t done_ = 0, total_;
};

/// A tensor of a GGUF file, as another type.
void write_tensor(io::GgufWriter& writer, const io::Weights& weights, const io::TensorInfo& tensor, Format format,
                  Told& told) {
  const Index columns = tensor.columns();
  std::vector<float> numbers;
  std::vector<std::byte> blocks;
  each_piece(tensor.rows(), columns * Index{sizeof(float)}, [&](Index begin, Index rows) {
    const auto bytes = static_cast<std::size_t>(rows * row_bytes(format, columns));
    if (tensor.format == format) {
      writer.write(weights.data(tensor) + begin * row_bytes(format, columns), bytes);
    } else {
      numbers.resize(static_cast<std::size_t>(rows * columns));
      blocks.resize(bytes);
      weights.read(tensor, {begin, rows, 0, columns}, numbers.data());
      if (!encode_rows(format, numbers.data(), rows, columns, blocks.data()))
        throw not_finite(weights.file_of(tensor), tensor.name, format);
      writer.write(blocks.data(), bytes);
    }
    weights.release(tensor, begin, rows);
    told.add(bytes);
  });
}

/// A tensor of a folder on its way into a GGUF file.
struct Move {
  const TensorRow* row;
  const TensorPart* part;  // where the folder has it
  const Source* to;        // where it goes
  Index layer;             // negative outside of layers
  Format format;
};

/// All tensors of a folder with their places in the file. Both tables must outlive the moves.
std::vector<Move> moves_of(const ModelFiles& files, const TensorTable& from, const TensorTable& to, Types& types) {
  std::vector<Move> moves;
  Index layer = -1;
  const auto add = [&](const TensorRow& row, const TensorRow& target) {
    if (row.tied) return;
    for (std::size_t p = 0; p < row.parts.size(); ++p) {
      const TensorPart& part = row.parts[p];
      if (part.sources.empty()) continue;
      const Source& place = target.parts[p].sources.front();
      if (row.experts > 1 || place.group > 0 || place.base > 0 || place.transposed)
        throw InternalError("tensor '{}' does not lie in GGUF files as a matrix of its own", place.tensor);
      const Source* held = held_source(files.weights, part, files.names.base);
      const Format stored = row.vector ? Format::f32 : find_source(files.weights, *held, files.names.base)->format;
      const Format format = row.vector ? stored : types.of(place.tensor, part.rows, row.columns, stored);
      moves.push_back({&row, &part, &place, layer, format});
    }
  };
  each_first_tensor(add, from, to);
  for (layer = 0; layer < std::ssize(from.layers); ++layer)
    each_tensor(add, from.layers[static_cast<std::size_t>(layer)], to.layers[static_cast<std::size_t>(layer)]);
  layer = -1;
  each_last_tensor(add, from, to);
  return moves;
}

std::vector<Index> shape_of(const Move& move) {
  return move.row->vector ? std::vector{move.part->rows} : std::vector{move.part->rows, move.row->columns};
}

void write_vector(io::GgufWriter& writer, const ModelFiles& files, const Move& move, Told& told) {
  const auto values = read_vector(files.weights, files.names.base, *move.part, {0, move.part->rows, 0, 1});
  std::vector<float> placed(values.size());
  for (std::size_t i = 0; i < values.size(); ++i)
    placed[static_cast<std::size_t>(move.to->file_row(static_cast<Index>(i)))] = values[i];
  writer.write(placed.data(), placed.size() * sizeof(float));
  told.add(placed.size() * sizeof(float));
}

void write_matrix(io::GgufWriter& writer, const ModelFiles& files, const Move& move, const Shard& whole, Told& told) {
  const auto* layer = move.layer < 0 ? nullptr : &whole.layers[static_cast<std::size_t>(move.layer)];
  const PartReader reader(files.weights, files.names.base, *move.row, *move.part, whole, layer);
  const Index rows = move.part->rows, bytes = row_bytes(move.format, move.row->columns);
  std::vector<Index> order(static_cast<std::size_t>(rows));  // the part's row that lies at each row of the file
  for (Index row = 0; row < rows; ++row) order[static_cast<std::size_t>(move.to->file_row(row))] = row;
  std::vector<std::byte> blocks;
  each_piece(rows, bytes, [&](Index begin, Index count) {
    blocks.resize(static_cast<std::size_t>(count * bytes));
    Index bad = 0;
    Kokkos::parallel_reduce(
        "grist::gguf_conversion::encode", Indices<HostExec>(0, count),
        [&](Index i, Index& sum) {
          sum += !reader.read(0, order[static_cast<std::size_t>(begin + i)], move.format, blocks.data() + i * bytes);
        },
        bad);
    if (bad > 0) throw not_finite(reader.file(), reader.tensor(0), move.format);
    writer.write(blocks.data(), blocks.size());
    told.add(blocks.size());
  });
  reader.release();
}

}  // namespace

ConversionNotes quantize_gguf(const fs::path& from, Format type, const fs::path& to, const Progress& progress) {
  refuse_existing(to);
  const ModelFiles files = open_model(from);  // knows the architecture and all of its tensors
  const io::Gguf gguf = io::open_gguf(from);
  const auto architecture = gguf.get<std::string>("general.architecture");
  Types types(type, architecture, gguf.get_or<std::int64_t>(architecture + ".expert_count", 0),
              gguf.weights.find("output.weight") == nullptr);
  io::GgufWriter writer(to);
  constexpr std::array<std::string_view, 6> anew = {"general.file_type", "general.quantization_version",
                                                    "general.alignment", "split.no", "split.count",
                                                    "split.tensors.count"};
  for (const auto& [key, value] : gguf.entries)
    if (std::ranges::find(anew, key) == anew.end()) writer.set_encoded(key, value);
  set_file_type(writer, type);

  std::vector<std::pair<const io::TensorInfo*, Format>> tensors;
  for (const auto& [name, tensor] : gguf.weights.tensors())
    tensors.emplace_back(&tensor, types.of(name, tensor.rows(), tensor.columns(), tensor.format));
  std::ranges::sort(tensors, {}, [](const auto& one) { return std::pair(one.first->file, one.first->offset); });
  std::uint64_t total = 0;
  for (const auto& [tensor, format] : tensors) {
    writer.add_tensor(tensor->name, format, tensor->shape);
    total += static_cast<std::uint64_t>(tensor->rows() * row_bytes(format, tensor->columns()));
  }
  Told told(progress, total);
  for (const auto& [tensor, format] : tensors) write_tensor(writer, gguf.weights, *tensor, format, told);
  writer.close();
  auto notes = types.notes();
  notes.insert(notes.begin(), files.notes.begin(), files.notes.end());
  return notes;
}

ConversionNotes quantize_folder(const fs::path& from, Format type, const fs::path& to,
                                const std::function<void(io::GgufWriter&, const ModelFiles&)>& add_tokenizer,
                                const Progress& progress) {
  refuse_existing(to);
  const ModelFiles files = open_model(from);
  const ModelSpec& spec = files.spec;
  TensorNames names = gguf_names();
  names.rope_pairs = files.family == "llama";  // as its family has it in GGUF files
  const TensorTable source = tensor_table(spec, files.names), target = tensor_table(spec, names);
  io::GgufWriter writer(to);
  const auto divisors = set_gguf_settings(writer, files, from / "config.json");
  set_file_type(writer, type);
  add_tokenizer(writer, files);

  Types types(type, files.family, 0, spec.tied_embeddings);
  const auto moves = moves_of(files, source, target, types);
  std::uint64_t total = 0;
  for (const Move& move : moves) {
    writer.add_tensor(move.to->tensor, move.format, shape_of(move));
    const Index columns = move.row->vector ? 1 : move.row->columns;
    total += static_cast<std::uint64_t>(move.part->rows * row_bytes(move.format, columns));
  }
  if (!divisors.empty()) writer.add_tensor("rope_freqs.weight", Format::f32, {std::ssize(divisors)});
  Told told(progress, total);
  const Shard whole = shard_of(spec, 1, 0);
  for (const Move& move : moves) {
    if (move.row->vector)
      write_vector(writer, files, move, told);
    else
      write_matrix(writer, files, move, whole, told);
  }
  if (!divisors.empty()) writer.write(divisors.data(), divisors.size() * sizeof(float));
  writer.close();
  if (const auto different = difference_of(read_spec(to).spec, spec); !different.empty()) {
    std::error_code ignored;
    fs::remove(to, ignored);
    throw InputError("{}: llama.cpp's architecture cannot say {}", (from / "config.json").string(), different);
  }
  auto notes = types.notes();
  notes.insert(notes.begin(), files.notes.begin(), files.notes.end());
  return notes;
}

}  // namespace grist
