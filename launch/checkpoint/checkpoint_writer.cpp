#include "launch/checkpoint/checkpoint_writer.h"

#include <cstdio>
#include <filesystem>
#include <utility>

#include "core/base/log.h"
#include "core/base/steady_clock.h"
#include "core/runtime/block_copy.h"
#include "launch/checkpoint/agreement.h"
#include "launch/checkpoint/checkpoint_folder.h"
#include "launch/checkpoint/crc32c.h"

namespace tessera {
namespace {

// A piece is checked as a whole when any part of it is read, and fits in a cache-friendly buffer.
constexpr int64_t kMostPieceBytes = int64_t{16} << 20;
constexpr int64_t kAlignment = 64;

int64_t logical_bytes(std::span<const TensorSlice> slices) {
  int64_t bytes = 0;
  for (const TensorSlice& slice : slices)
    bytes += clip({slice.start, slice.shape}, slice.tensor.type.shape).shape.elements() *
             size_of(slice.tensor.type.dtype);
  return bytes;
}

int64_t sum_over_ranks(World* world, int64_t value) {
  if (world == nullptr) return value;
  int64_t sum = 0;
  for (const std::string& text : world->all_gather_text(std::to_string(value)))
    sum += std::stoll(text);
  return sum;
}

// The data file of one rank: pieces one after the other.
class SliceFile {
 public:
  SliceFile(FileSystem& files, const std::string& folder, int rank) {
    char name[32];
    std::snprintf(name, sizeof name, "data_%05d.bin", rank);
    name_ = name;
    file_ = files.create_file(folder + "/" + name_);
  }

  SliceRecord append(const TensorSlice& slice, const Box& piece) {
    const int64_t element = size_of(slice.tensor.type.dtype);
    const int64_t bytes = piece.shape.elements() * element;
    buffer_.resize(static_cast<size_t>(bytes));
    std::vector<int64_t> from = piece.start;
    for (size_t d = 0; d < from.size(); ++d) from[d] -= slice.start[d];
    const std::vector<int64_t> to(from.size(), 0);
    // Through a buffer in any case: what is checked is then exactly what is written, even where
    // another thread already trains on.
    if (slice.fetch)
      fetch(slice, from, piece.shape, element);
    else
      copy_block(buffer_.data(), piece.shape, to, slice.data, slice.shape, from, piece.shape, element);
    pad_to(kAlignment);
    const SliceRecord record{name_, offset_, bytes, piece, crc32c(buffer_.data(), buffer_.size())};
    file_->append(buffer_);
    offset_ += bytes;
    return record;
  }

  void finish() { file_->sync_and_close(); }

 private:
  // From a device: the rows of the slice that hold the piece come to the host, and the piece out of them.
  void fetch(const TensorSlice& slice, std::vector<int64_t> from, const Shape& piece, int64_t element) {
    Shape rows = slice.shape;
    int64_t row_bytes = element, first = 0;
    if (rows.rank() > 0) {
      row_bytes *= rows[0] == 0 ? 0 : rows.elements() / rows[0];
      first = std::exchange(from[0], 0);
      rows[0] = piece[0];
    }
    fetched_.resize(static_cast<size_t>(rows.elements() * element));
    slice.fetch(fetched_.data(), first * row_bytes, static_cast<int64_t>(fetched_.size()));
    copy_block(buffer_.data(), piece, std::vector<int64_t>(from.size(), 0), fetched_.data(), rows, from, piece,
               element);
  }

  void pad_to(int64_t alignment) {
    static constexpr std::byte kZeros[kAlignment] = {};
    const int64_t gap = (alignment - offset_ % alignment) % alignment;
    file_->append(std::span(kZeros).first(static_cast<size_t>(gap)));
    offset_ += gap;
  }

  std::string name_;
  std::unique_ptr<OutputFile> file_;
  std::vector<std::byte> buffer_, fetched_;
  int64_t offset_ = 0;
};

}  // namespace

CheckpointWriter::CheckpointWriter(std::string output_folder, int64_t keep, World* world,
                                   FileSystem& files)
    : output_folder_(std::move(output_folder)), keep_(keep), world_(world), files_(&files) {
  if (keep < 1)
    throw_config_error("checkpoint.keep is ", keep, "; at least 1 checkpoint must be kept");
}

void CheckpointWriter::prepare(int64_t step) {
  files_->create_folders(checkpoints_folder(output_folder_));
  remove_leftovers(output_folder_, *files_);
  files_->create_folders(checkpoints_folder(output_folder_) + "/" + step_name(step) +
                         std::string(kTemporarySuffix));
}

std::vector<TensorRecord> CheckpointWriter::write_slices(std::span<const TensorSlice> slices,
                                                         const std::string& folder) const {
  SliceFile file(*files_, folder, rank());
  std::vector<TensorRecord> records;
  for (const TensorSlice& slice : slices) {
    const TensorType& type = slice.tensor.type;
    TESSERA_CHECK(slice.shape.rank() == type.rank(), "tensor ", slice.tensor.name, " ", type,
                  " with a slice of shape ", slice.shape);
    TensorRecord record{slice.tensor, {}};
    const Box box = clip({slice.start, slice.shape}, type.shape);
    for (const Box& piece : cut_box(box, size_of(type.dtype), kMostPieceBytes))
      record.slices.push_back(file.append(slice, piece));
    records.push_back(std::move(record));
  }
  file.finish();
  files_->sync_folder(folder);
  return records;
}

// Gives the finished folder its name. Where a checkpoint of that step is already there (the run was
// resumed before it, because it is damaged, or just saved it twice), one of the two is always
// found.
void CheckpointWriter::take_name(const std::string& folder, const std::string& final_path) {
  if (!std::filesystem::exists(final_path)) {
    files_->rename(folder, final_path);
  } else if (!files_->exchange(folder, final_path)) {
    const std::string replaced = final_path + std::string(kReplacedSuffix);
    files_->remove_all(replaced);
    files_->rename(final_path, replaced);
    files_->rename(folder, final_path);
  }
  files_->sync_folder(checkpoints_folder(output_folder_));
}

void CheckpointWriter::commit(const Manifest& manifest, const std::string& folder) {
  const std::string bytes = serialize(manifest);
  write_file(*files_, folder + "/" + kManifestFile, bytes);
  write_file(*files_, folder + "/" + kManifestChecksumFile, checksum_line(bytes));
  files_->sync_folder(folder);
  take_name(folder, checkpoints_folder(output_folder_) + "/" + step_name(manifest.info.step));
  try {
    remove_leftovers(output_folder_, *files_);  // the one that was replaced
  } catch (const IoError& error) {
    log_warning("an old checkpoint stays: ", error.what());
  }
  prune_checkpoints(output_folder_, manifest.info.step, keep_, *files_);
}

void CheckpointWriter::fail(int64_t step, const std::string& error, int64_t bytes) {
  const std::string folder = checkpoints_folder(output_folder_);
  const int64_t room = free_bytes(output_folder_);
  std::string left = "there is no earlier checkpoint";
  if (rank() == 0) {
    try {
      files_->remove_all(folder + "/" + step_name(step) + std::string(kTemporarySuffix));
    } catch (const IoError&) {  // the first error is the one to tell; the next save tries again
    }
  }
  try {
    for (const CheckpointEntry& entry : list_checkpoints(output_folder_))
      if (entry.step <= step) {
        left = "the checkpoint before it, " + entry.path + ", is intact";
        break;
      }
  } catch (const IoError&) {
  }
  throw AgreedError(cat(
      "checkpoint of step ", step, " could not be saved in ", folder, ": ", error, ". It needs ",
      human_bytes(static_cast<double>(bytes)),
      room < 0 ? "" : cat(" and ", human_bytes(static_cast<double>(room)), " were free"), "; ",
      left, ". Free some space or give another output_dir, and run again"));
}

SaveReport CheckpointWriter::save(const CheckpointInfo& info, std::span<const TensorSlice> slices) {
  const double begin = steady_seconds();
  const std::string folder = checkpoints_folder(output_folder_) + "/" + step_name(info.step) +
                             std::string(kTemporarySuffix);
  const int64_t bytes = sum_over_ranks(world_, logical_bytes(slices));

  const Outcome prepared = run_on_first(world_, [&] {
    prepare(info.step);
    return std::string();
  });
  if (prepared.failed()) fail(info.step, prepared.error, bytes);

  std::vector<TensorRecord> mine;
  const std::vector<Outcome> written = run_on_all(world_, [&] {
    mine = write_slices(slices, folder);
    return serialize_records(mine);
  });
  for (const Outcome& outcome : written)
    if (outcome.failure == Failure::internal) throw InternalError(outcome.error);
  if (const std::string error = first_error(written); !error.empty()) fail(info.step, error, bytes);

  std::vector<std::vector<TensorRecord>> by_rank;
  for (const Outcome& outcome : written) by_rank.push_back(parse_records(outcome.payload));
  const Outcome committed = run_on_first(world_, [&] {
    commit({info, merge_records(by_rank)}, folder);
    return std::string();
  });
  if (committed.failure == Failure::internal) throw InternalError(committed.error);
  if (committed.failed()) fail(info.step, committed.error, bytes);

  return {checkpoints_folder(output_folder_) + "/" + step_name(info.step), bytes, steady_seconds() - begin};
}

}  // namespace tessera
