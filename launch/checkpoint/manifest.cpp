#include "launch/checkpoint/manifest.h"

#include <algorithm>
#include <cstdio>
#include <set>

#include "launch/checkpoint/crc32c.h"
#include "proto/checkpoint.pb.h"

namespace tessera {
namespace {

constexpr int64_t kFormatVersion = 1;

void write_info(const CheckpointInfo& info, proto::CheckpointManifest& message) {
  message.set_step(info.step);
  message.mutable_data()->set_epoch(info.data.epoch);
  message.mutable_data()->set_sequence(info.data.index);
  message.mutable_data()->set_epoch_size(info.epoch_size);
  message.mutable_data()->set_corpus_crc32c(info.corpus_fingerprint);
  message.mutable_rng()->set_seed(info.seed);
  message.mutable_rng()->set_step(info.step);
  message.set_config_text(info.config_text);
  message.set_commit(info.commit);
  message.mutable_libraries()->insert(info.libraries.begin(), info.libraries.end());
  message.mutable_determinism()->insert(info.determinism.begin(), info.determinism.end());
  for (const auto& [name, size] : info.mesh) {
    message.add_mesh()->set_name(name);
    message.mutable_mesh()->rbegin()->set_size(size);
  }
  message.set_tokens(info.tokens);
  if (info.loss) message.set_loss(*info.loss);
}

CheckpointInfo read_info(const proto::CheckpointManifest& message) {
  CheckpointInfo info;
  info.step = message.step();
  info.data = {message.data().epoch(), message.data().sequence()};
  info.epoch_size = message.data().epoch_size();
  info.corpus_fingerprint = message.data().corpus_crc32c();
  info.seed = message.rng().seed();
  info.tokens = message.tokens();
  if (message.has_loss()) info.loss = message.loss();
  info.config_text = message.config_text();
  info.commit = message.commit();
  info.libraries = {message.libraries().begin(), message.libraries().end()};
  info.determinism = {message.determinism().begin(), message.determinism().end()};
  for (const proto::MeshAxis& axis : message.mesh())
    info.mesh.emplace_back(axis.name(), axis.size());
  return info;
}

void write_record(const TensorRecord& record, proto::TensorRecord& message) {
  message.set_name(record.tensor.name);
  message.set_dtype(std::string(name_of(record.tensor.type.dtype)));
  message.set_role(record.tensor.role);
  for (const int64_t size : record.tensor.type.shape) message.add_shape(size);
  for (const SliceRecord& slice : record.slices) {
    proto::TensorSlice& out = *message.add_slices();
    out.set_file(slice.file);
    out.set_offset(slice.offset);
    out.set_bytes(slice.bytes);
    for (const int64_t start : slice.box.start) out.add_start(start);
    for (const int64_t size : slice.box.shape) out.add_shape(size);
    out.set_crc32c(slice.crc);
  }
}

// A fault in a manifest is told with the tensor that has it.
SliceRecord read_slice(const proto::TensorSlice& message, const TensorSpec& tensor,
                       const std::string& path) {
  SliceRecord slice;
  slice.file = message.file();
  slice.offset = message.offset();
  slice.bytes = message.bytes();
  slice.box.start = {message.start().begin(), message.start().end()};
  slice.box.shape = Shape(std::vector<int64_t>(message.shape().begin(), message.shape().end()));
  slice.crc = message.crc32c();
  const Shape& whole = tensor.type.shape;
  bool inside = slice.box.shape.rank() == whole.rank() &&
                slice.box.start.size() == static_cast<size_t>(whole.rank());
  for (int d = 0; inside && d < whole.rank(); ++d)
    inside = slice.box.start[d] >= 0 && slice.box.shape[d] >= 1 &&
             slice.box.shape[d] <= whole[d] - slice.box.start[d];
  // A file of the folder itself, and nothing outside it.
  inside = inside && !slice.file.empty() && slice.file.find('/') == std::string::npos &&
           slice.offset >= 0 &&
           slice.bytes == slice.box.shape.elements() * size_of(tensor.type.dtype);
  if (!inside)
    throw CorruptCheckpoint(cat(path, " is damaged: a slice of tensor ", tensor.name, " ",
                                tensor.type, " lies outside it"));
  return slice;
}

TensorRecord read_record(const proto::TensorRecord& message, const std::string& path) {
  TensorRecord record;
  record.tensor.name = message.name();
  record.tensor.role = message.role();
  const auto dtype = parse_dtype(message.dtype());
  bool good = dtype.has_value();
  for (const int64_t size : message.shape()) {
    good = good && size >= 0;
    record.tensor.type.shape.push_back(size);
  }
  if (!good)
    throw CorruptCheckpoint(cat(path, " is damaged: tensor ", message.name(), " has dtype '",
                                message.dtype(), "' and shape ", record.tensor.type.shape));
  record.tensor.type.dtype = *dtype;
  for (const proto::TensorSlice& slice : message.slices())
    record.slices.push_back(read_slice(slice, record.tensor, path));
  return record;
}

void check_complete(const TensorRecord& record, const std::string& path) {
  if (record.stored_elements() != record.tensor.type.elements())
    throw CorruptCheckpoint(cat(path, " is damaged: the slices of tensor ", record.tensor.name, " ",
                                record.tensor.type, " hold ", record.stored_elements(), " of its ",
                                record.tensor.type.elements(), " elements"));
}

// Throws InternalError where two slices of `record` overlap. A sweep along the dim that cuts the
// tensor most: only slices that meet in it are compared, so thousands of shards take no time.
void check_disjoint(TensorRecord& record) {
  std::vector<SliceRecord>& slices = record.slices;
  const int rank = record.tensor.type.rank();
  int dim = 0;
  size_t most = 0;
  for (int d = 0; d < rank; ++d) {
    std::set<int64_t> starts;
    for (const SliceRecord& slice : slices) starts.insert(slice.box.start[d]);
    if (starts.size() > most) {
      most = starts.size();
      dim = d;
    }
  }
  if (rank > 0)
    std::sort(slices.begin(), slices.end(), [dim](const SliceRecord& a, const SliceRecord& b) {
      return a.box.start[dim] < b.box.start[dim];
    });
  for (size_t i = 0; i < slices.size(); ++i)
    for (size_t j = i + 1; j < slices.size(); ++j) {
      const Box &a = slices[i].box, &b = slices[j].box;
      if (rank > 0 && b.start[dim] >= a.start[dim] + a.shape[dim]) break;
      TESSERA_CHECK(intersect(a, b).empty(), "two ranks gave the same part of tensor ",
                    record.tensor.name, " ", record.tensor.type, " to the checkpoint: from [",
                    join(a.start), "] extent ", a.shape, " and from [", join(b.start), "] extent ",
                    b.shape);
    }
}

}  // namespace

int64_t TensorRecord::stored_elements() const {
  int64_t count = 0;
  for (const SliceRecord& slice : slices) count += slice.box.shape.elements();
  return count;
}

std::string serialize(const Manifest& manifest) {
  proto::CheckpointManifest message;
  message.set_format_version(kFormatVersion);
  write_info(manifest.info, message);
  for (const TensorRecord& record : manifest.tensors) write_record(record, *message.add_tensors());
  return message.SerializeAsString();
}

Manifest parse_manifest(const std::string& bytes, const std::string& path) {
  proto::CheckpointManifest message;
  if (!message.ParseFromString(bytes))
    throw CorruptCheckpoint(cat(path, " is damaged: its ", bytes.size(), " bytes are no manifest"));
  if (message.format_version() != kFormatVersion)
    throw_user_error(path, " has checkpoint format ", message.format_version(),
                     "; this Tessera reads format ", kFormatVersion,
                     ". Use the Tessera that wrote it (commit ", message.commit(),
                     ") or a newer one");
  Manifest manifest;
  manifest.info = read_info(message);
  for (const proto::TensorRecord& record : message.tensors()) {
    manifest.tensors.push_back(read_record(record, path));
    check_complete(manifest.tensors.back(), path);
  }
  return manifest;
}

std::string serialize_records(const std::vector<TensorRecord>& records) {
  proto::CheckpointManifest message;
  for (const TensorRecord& record : records) write_record(record, *message.add_tensors());
  return message.SerializeAsString();
}

std::vector<TensorRecord> parse_records(const std::string& bytes) {
  proto::CheckpointManifest message;
  TESSERA_CHECK(message.ParseFromString(bytes));
  std::vector<TensorRecord> records;
  for (const proto::TensorRecord& record : message.tensors())
    records.push_back(read_record(record, "a rank's list of slices"));
  return records;
}

std::vector<TensorRecord> merge_records(const std::vector<std::vector<TensorRecord>>& by_rank) {
  std::map<std::string, TensorRecord> by_name;
  for (const std::vector<TensorRecord>& records : by_rank)
    for (const TensorRecord& record : records) {
      const auto [entry, added] = by_name.try_emplace(record.tensor.name, record);
      if (added) continue;
      TensorRecord& merged = entry->second;
      TESSERA_CHECK(merged.tensor == record.tensor, "ranks disagree about tensor ",
                    record.tensor.name, ": ", merged.tensor.type, " and ", record.tensor.type);
      merged.slices.insert(merged.slices.end(), record.slices.begin(), record.slices.end());
    }
  std::vector<TensorRecord> merged;
  for (auto& [name, record] : by_name) {
    TESSERA_CHECK(record.stored_elements() == record.tensor.type.elements(), "the ranks gave ",
                  record.stored_elements(), " elements of tensor ", name, " ", record.tensor.type,
                  " of ", record.tensor.type.elements(), " to the checkpoint");
    // With the count right, a gap needs an overlap.
    check_disjoint(record);
    merged.push_back(std::move(record));
  }
  return merged;
}

std::string checksum_line(std::string_view bytes) {
  char text[48];
  std::snprintf(text, sizeof text, "%08x %zu\n", crc32c(bytes), bytes.size());
  return text;
}

}  // namespace tessera
