// A corpus: UTF-8 files, and all files below folders, seen as one stream of byte tokens.
//
// A file is a document, or several where a separator is given. Documents follow each other in the
// order of the paths given, within a folder in the order of their names (bytewise), and an end
// token closes each:
//
//     a.txt = "hi"   b/c.txt = "yo"                ->   h i </s> y o </s>      6 tokens
//     f = "hi\n%\nyo", separator "\n%\n"           ->   h i </s> y o </s>
//
// Files are mapped, not read: opening a corpus touches its text only to validate it and to find
// separators.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "launch/data/mapped_file.h"

namespace tessera {

struct CorpusOptions {
  // Text between two documents of one file, part of neither; empty: a file is one document.
  std::string separator = {};
  // Reads all text once and refuses what is not UTF-8. Ranks that share the file system with one
  // that validates may leave it out.
  bool validate = true;
};

class Corpus {
 public:
  // Throws UserError where a path is missing, unreadable, holds no text, or is not UTF-8 (naming
  // the file and the byte offset). In a folder, names that begin with '.' are skipped, and links to
  // files are followed, links to folders not. Empty documents are left out.
  static Corpus open(std::span<const std::string> paths, const CorpusOptions& options = {});
  static Corpus open(const std::string& path, const CorpusOptions& options = {}) {
    return open(std::span(&path, 1), options);
  }

  const std::string& name() const { return name_; }  // the paths, for messages
  int64_t documents() const { return static_cast<int64_t>(documents_.size()); }
  int64_t bytes() const { return tokens() - documents(); }  // of text
  int64_t tokens() const { return starts_.back(); }         // text and end tokens

  // Tokens [begin, begin + out.size()) of the stream, which must exist.
  void read(int64_t begin, std::span<int32_t> out) const;

  // A checksum of the documents' sizes and of a sample of their text: equal corpora have equal
  // fingerprints on every machine, whatever folder they lie in. A checkpoint records it, so that a
  // resume on other text can be told. Never 0.
  uint32_t fingerprint() const;

 private:
  void add_path(const std::string& path, const CorpusOptions& options);
  void add_file(const std::string& path, const CorpusOptions& options);

  std::string name_;
  std::vector<MappedFile> files_;
  std::vector<std::span<const uint8_t>> documents_;  // the text of each, in files_
  std::vector<int64_t> starts_ = {0};                // first token of each document, then the total
};

}  // namespace tessera
