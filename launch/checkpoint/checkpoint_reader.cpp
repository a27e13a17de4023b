#include "launch/checkpoint/checkpoint_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <set>
#include <utility>

#include "core/runtime/block_copy.h"
#include "launch/checkpoint/crc32c.h"
#include "launch/checkpoint/file_system.h"

namespace tessera {
namespace {

std::string read_or_corrupt(const std::string& path) {
  try {
    return read_file(path);
  } catch (const IoError& error) {
    throw CorruptCheckpoint(error.what());
  }
}

}  // namespace

// Read by position, not mapped: a bad sector then is an error to tell, not a SIGBUS.
class CheckpointReader::DataFile {
 public:
  explicit DataFile(std::string path) : path_(std::move(path)) {
    descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor_ < 0)
      throw CorruptCheckpoint(cat(path_, " cannot be opened: ", std::strerror(errno)));
  }
  DataFile(DataFile&& other) noexcept
      : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}
  ~DataFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  const std::string& path() const { return path_; }

  void read(int64_t offset, std::span<std::byte> out, const TensorSpec& tensor) const {
    while (!out.empty()) {
      const ssize_t count =
          ::pread(descriptor_, out.data(), std::min(out.size(), size_t{1} << 30), offset);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0)
        throw CorruptCheckpoint(cat(path_, " cannot be read at byte ", offset, " (tensor ",
                                    tensor.name, "): ", std::strerror(errno)));
      if (count == 0)
        throw CorruptCheckpoint(
            cat(path_, " is truncated: it ends at byte ", offset, ", inside tensor ", tensor.name));
      out = out.subspan(static_cast<size_t>(count));
      offset += count;
    }
  }

 private:
  std::string path_;
  int descriptor_ = -1;
};

CheckpointReader::CheckpointReader(std::string path) : path_(std::move(path)) {
  const std::string manifest_path = path_ + "/" + kManifestFile;
  const std::string bytes = read_or_corrupt(manifest_path);
  const std::string line = read_or_corrupt(path_ + "/" + kManifestChecksumFile);
  if (line != checksum_line(bytes))
    throw CorruptCheckpoint(cat(manifest_path, " is damaged: its checksum and size are ",
                                trim(checksum_line(bytes)), ", but ", kManifestChecksumFile,
                                " says ", trim(line)));
  manifest_ = parse_manifest(bytes, manifest_path);
  for (const TensorRecord& record : manifest_.tensors) by_name_[record.tensor.name] = &record;
  check_sizes();
}

CheckpointReader::~CheckpointReader() = default;
CheckpointReader::CheckpointReader(CheckpointReader&&) noexcept = default;

// Finds missing and truncated files before any tensor is read.
void CheckpointReader::check_sizes() const {
  std::map<std::string, std::pair<int64_t, const TensorRecord*>> ends;
  for (const TensorRecord& record : manifest_.tensors)
    for (const SliceRecord& slice : record.slices) {
      auto& end = ends[slice.file];
      if (slice.offset + slice.bytes > end.first) end = {slice.offset + slice.bytes, &record};
    }
  for (const auto& [name, end] : ends) {
    std::error_code error;
    const std::string file = path_ + "/" + name;
    const auto size = static_cast<int64_t>(std::filesystem::file_size(file, error));
    if (error) throw CorruptCheckpoint(cat(file, " cannot be read: ", error.message()));
    if (size < end.first)
      throw CorruptCheckpoint(cat(file, " is truncated: it has ", size, " of ", end.first,
                                  " bytes, and tensor ", end.second->tensor.name,
                                  " lies where it ends"));
  }
}

const TensorRecord* CheckpointReader::find(const std::string& name) const {
  const auto entry = by_name_.find(name);
  return entry == by_name_.end() ? nullptr : entry->second;
}

int64_t CheckpointReader::bytes() const {
  int64_t sum = 0;
  for (const TensorRecord& record : manifest_.tensors) sum += record.tensor.type.bytes();
  return sum;
}

std::span<const std::byte> CheckpointReader::read_slice(const TensorSpec& tensor,
                                                        const SliceRecord& slice) {
  auto file = files_.find(slice.file);
  if (file == files_.end())
    file = files_.emplace(slice.file, DataFile(path_ + "/" + slice.file)).first;
  buffer_.resize(static_cast<size_t>(slice.bytes));
  file->second.read(slice.offset, buffer_, tensor);
  const uint32_t crc = crc32c(buffer_.data(), buffer_.size());
  if (crc != slice.crc) {
    char sums[64];
    std::snprintf(sums, sizeof sums, "CRC-32C %08x, written as %08x", crc, slice.crc);
    throw CorruptCheckpoint(cat(file->second.path(), " is damaged in tensor ", tensor.name, " at ",
                                "bytes [", slice.offset, ",", slice.offset + slice.bytes,
                                "): ", sums));
  }
  return buffer_;
}

void CheckpointReader::read(const TensorTarget& target) {
  const TensorRecord* record = find(target.tensor.name);
  const TensorType& type = target.tensor.type;
  TESSERA_CHECK(record != nullptr && record->tensor.type == type, "tensor ", target.tensor.name,
                " ", type, " is not in ", path_);
  const int64_t element = size_of(type.dtype);
  const Box wanted = clip({target.start, target.shape}, type.shape);
  const auto bytes_of_box = static_cast<size_t>(target.shape.elements() * element);
  std::vector<std::byte> staged(target.deliver ? bytes_of_box : 0);
  std::byte* const box = target.deliver ? staged.data() : target.data;
  if (wanted.shape != target.shape) std::memset(box, 0, bytes_of_box);
  for (const SliceRecord& slice : record->slices) {
    const Box common = intersect(slice.box, wanted);
    if (common.empty()) continue;
    const std::span<const std::byte> bytes = read_slice(record->tensor, slice);
    std::vector<int64_t> from = common.start, to = common.start;
    for (size_t d = 0; d < from.size(); ++d) {
      from[d] -= slice.box.start[d];
      to[d] -= target.start[d];
    }
    copy_block(box, target.shape, to, bytes.data(), slice.box.shape, from, common.shape, element);
  }
  if (target.deliver) target.deliver(box);
}

void CheckpointReader::verify() {
  for (const TensorRecord& record : manifest_.tensors)
    for (const SliceRecord& slice : record.slices) read_slice(record.tensor, slice);
}

namespace {

// "3 missing (...):\n    a f32[4]\n    ..."
std::string listing(const std::string& title, const std::vector<std::string>& lines) {
  constexpr size_t kMost = 20;
  if (lines.empty()) return "";
  std::string text = cat("\n  ", lines.size(), " ", title, ":");
  for (size_t i = 0; i < std::min(lines.size(), kMost); ++i) text += "\n    " + lines[i];
  if (lines.size() > kMost) text += cat("\n    ... and ", lines.size() - kMost, " more");
  return text;
}

}  // namespace

void check_same_model(const CheckpointReader& checkpoint, std::span<const TensorSpec> expected) {
  std::set<std::string> names, roles;
  std::vector<std::string> missing, unexpected, misshapen;
  for (const TensorSpec& tensor : expected) {
    names.insert(tensor.name);
    roles.insert(tensor.role);
    const TensorRecord* record = checkpoint.find(tensor.name);
    if (record == nullptr)
      missing.push_back(cat(tensor.name, " ", tensor.type));
    else if (record->tensor.type != tensor.type)
      misshapen.push_back(cat(tensor.name, ": ", record->tensor.type, " in the checkpoint, ",
                              tensor.type, " in the job"));
  }
  for (const TensorRecord& record : checkpoint.tensors())
    if (!names.contains(record.tensor.name) && roles.contains(record.tensor.role))
      unexpected.push_back(cat(record.tensor.name, " ", record.tensor.type));
  if (missing.empty() && unexpected.empty() && misshapen.empty()) return;
  throw_user_error("checkpoint ", checkpoint.path(), " is of another model than the job:",
                   listing("missing (the job has them, the checkpoint not)", missing),
                   listing("unexpected (the checkpoint has them, the job not)", unexpected),
                   listing("misshapen", misshapen),
                   "\nUse the model that the checkpoint was saved with, or another output_dir");
}

}  // namespace tessera
