#include "launch/data/corpus.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "core/base/error.h"
#include "launch/checkpoint/crc32c.h"
#include "launch/data/byte_tokenizer.h"
#include "launch/data/utf8.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

// Paths of the regular files below `folder`, relative to it, in bytewise order.
std::vector<std::string> list_files(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  auto entry = fs::recursive_directory_iterator(folder, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    std::error_code ignored;
    if (is_hidden(entry->path())) {
      if (entry->is_directory(ignored)) entry.disable_recursion_pending();
    } else if (entry->is_regular_file(ignored)) {
      names.push_back(entry->path().lexically_relative(folder).string());
    }
  }
  if (error) throw_user_error("corpus folder ", folder, " cannot be read: ", error.message());
  std::sort(names.begin(), names.end());
  return names;
}

void check_utf8(const MappedFile& file) {
  const auto bad = find_invalid_utf8(file.bytes());
  if (!bad) return;
  char byte[8];
  std::snprintf(byte, sizeof byte, "0x%02x", file.bytes()[static_cast<size_t>(*bad)]);
  throw_user_error("corpus file ", file.path(), " is not UTF-8: byte ", byte, " at offset ", *bad,
                   " of ", file.bytes().size(),
                   ". Convert it (for example: iconv -f LATIN1 -t UTF-8) or take it out of the "
                   "corpus");
}

// Calls `add` with each stretch of `text` between separators.
template <typename Add>
void for_each_document(std::span<const uint8_t> text, const std::string& separator, Add add) {
  while (!separator.empty() && !text.empty()) {
    const void* found = ::memmem(text.data(), text.size(), separator.data(), separator.size());
    if (found == nullptr) break;
    const size_t at = static_cast<size_t>(static_cast<const uint8_t*>(found) - text.data());
    add(text.first(at));
    text = text.subspan(at + separator.size());
  }
  add(text);
}

}  // namespace

void Corpus::add_file(const std::string& path, const CorpusOptions& options) {
  MappedFile file(path);
  if (options.validate) check_utf8(file);
  const auto before = documents_.size();
  for_each_document(file.bytes(), options.separator, [this](std::span<const uint8_t> document) {
    if (document.empty()) return;
    documents_.push_back(document);
    starts_.push_back(tokens() + static_cast<int64_t>(document.size()) + 1);
  });
  // A moved MappedFile keeps its pages where they are, so the documents' spans stay true.
  if (documents_.size() > before) files_.push_back(std::move(file));
}

void Corpus::add_path(const std::string& path, const CorpusOptions& options) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found)
    throw_user_error("corpus ", path, " does not exist. Name a UTF-8 file or a folder of them");
  if (error) throw_user_error("corpus ", path, " cannot be read: ", error.message());
  const int64_t before = documents();
  if (!fs::is_directory(status)) {
    add_file(path, options);
    if (documents() == before) throw_user_error("corpus ", path, " is empty: it holds no text");
    return;
  }
  const std::vector<std::string> names = list_files(path);
  for (const std::string& name : names) add_file((fs::path(path) / name).string(), options);
  if (documents() == before)
    throw_user_error("corpus folder ", path, " holds no text: ", names.size(),
                     " files, all empty (names that begin with '.' are skipped)");
}

Corpus Corpus::open(std::span<const std::string> paths, const CorpusOptions& options) {
  if (paths.empty()) throw_user_error("no corpus is named. Name a UTF-8 file or a folder of them");
  Corpus corpus;
  corpus.name_ = join(paths);
  for (const std::string& path : paths) corpus.add_path(path, options);
  return corpus;
}

void Corpus::read(int64_t begin, std::span<int32_t> out) const {
  const int64_t end = begin + static_cast<int64_t>(out.size());
  TESSERA_CHECK(begin >= 0 && end <= tokens(), "tokens [", begin, ",", end, ") of ", tokens());
  const auto next = std::upper_bound(starts_.begin(), starts_.end(), begin);
  size_t document = static_cast<size_t>(next - starts_.begin()) - 1;
  int32_t* target = out.data();
  for (int64_t at = begin; at < end; ++document) {
    const int64_t text_end = starts_[document + 1] - 1;  // where this document's end token stands
    const uint8_t* source = documents_[document].data() + (at - starts_[document]);
    for (const int64_t stop = std::min(end, text_end); at < stop; ++at)
      *target++ = token_of_byte(*source++);
    if (at < end) {
      *target++ = kEndToken;
      ++at;
    }
  }
}

uint32_t Corpus::fingerprint() const {
  constexpr size_t kSample = 1024;  // bytes from the start, the middle and the end of each document
  uint32_t crc = 0;
  for (const std::span<const uint8_t> text : documents_) {
    const uint64_t size = text.size();
    const size_t part = std::min<size_t>(kSample, size);
    crc = crc32c(&size, sizeof size, crc);
    for (const size_t at : {size_t{0}, (size - part) / 2, size - part})
      crc = crc32c(text.data() + at, part, crc);
  }
  return crc == 0 ? 1 : crc;
}

}  // namespace tessera
