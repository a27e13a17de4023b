#include "launch/data/corpus.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "core/base/error.h"
#include "launch/data/byte_tokenizer.h"
#include "tests/data/temp_folder.h"

namespace tessera {
namespace {

std::string stream_text(const Corpus& corpus) {
  std::vector<int32_t> tokens(static_cast<size_t>(corpus.tokens()));
  corpus.read(0, tokens);
  std::string text;
  for (const int32_t token : tokens)
    text += token == kEndToken ? "|" : decode_bytes(std::span(&token, 1));
  return text;
}

TEST(Corpus, FileIsOneDocument) {
  TempFolder folder;
  const Corpus corpus = Corpus::open(folder.write("a.txt", "hé!"));
  EXPECT_EQ(corpus.documents(), 1);
  EXPECT_EQ(corpus.bytes(), 4);
  EXPECT_EQ(corpus.tokens(), 5);
  EXPECT_EQ(stream_text(corpus), "hé!|");
}

TEST(Corpus, FolderIsReadRecursivelyInOrderOfNames) {
  TempFolder folder;
  folder.write("b/c.txt", "three");
  folder.write("b.txt", "two");
  folder.write("a.txt", "one");
  folder.write(".hidden", "no");
  folder.write(".git/x", "no");
  folder.write("empty.txt", "");
  EXPECT_EQ(stream_text(Corpus::open(folder.path())), "one|two|three|");
}

TEST(Corpus, SeparatorCutsDocumentsAndEmptyOnesAreLeftOut) {
  TempFolder folder;
  const std::string path = folder.write("fortunes", "a\n%\nb\nc\n%\n\n%\n\n%\n");
  EXPECT_EQ(stream_text(Corpus::open(path, {.separator = "\n%\n"})), "a|b\nc|");
}

TEST(Corpus, SeveralPathsFollowInTheOrderGiven) {
  TempFolder folder;
  const std::vector<std::string> paths = {folder.write("z", "1"), folder.write("a", "2")};
  EXPECT_EQ(stream_text(Corpus::open(paths)), "1|2|");
}

TEST(Corpus, ReadsAnyStretch) {
  TempFolder folder;
  folder.write("1", "abc");
  folder.write("2", "d");
  folder.write("3", "efgh");
  const Corpus corpus = Corpus::open(folder.path());
  std::vector<int32_t> all(static_cast<size_t>(corpus.tokens()));
  corpus.read(0, all);
  for (int64_t begin = 0; begin <= corpus.tokens(); ++begin)
    for (int64_t end = begin; end <= corpus.tokens(); ++end) {
      std::vector<int32_t> part(static_cast<size_t>(end - begin));
      corpus.read(begin, part);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + begin)) << begin << " " << end;
    }
}

TEST(Corpus, MissingIsAnError) {
  EXPECT_EQ(message_of<UserError>([] { Corpus::open("/no/such/text"); }),
            "corpus /no/such/text does not exist. Name a UTF-8 file or a folder of them");
}

TEST(Corpus, EmptyIsAnError) {
  TempFolder folder;
  const std::string path = folder.write("t/empty", "");
  EXPECT_EQ(message_of<UserError>([&] { Corpus::open(path); }),
            "corpus " + path + " is empty: it holds no text");
  EXPECT_EQ(message_of<UserError>([&] { Corpus::open(folder / "t"); }),
            "corpus folder " + (folder / "t") +
                " holds no text: 1 files, all empty (names that begin with '.' are skipped)");
}

TEST(Corpus, NotUtf8NamesFileAndOffset) {
  TempFolder folder;
  folder.write("good", "good");
  const std::string path = folder.write("latin1", "caf\xe9 au lait");
  const std::string message = message_of<UserError>([&] { Corpus::open(folder.path()); });
  EXPECT_NE(message.find(path + " is not UTF-8: byte 0xe9 at offset 3 of 12"), std::string::npos)
      << message;
  EXPECT_EQ(Corpus::open(folder.path(), {.validate = false}).documents(), 2);
}

TEST(Corpus, SpecialFileIsAnError) {
  EXPECT_NE(message_of<UserError>([] { Corpus::open("/dev/null"); }).find("not a regular file"),
            std::string::npos);
}

TEST(Corpus, FingerprintTellsTextsApartButNotFolders) {
  TempFolder one, two;
  one.write("x", "the same text");
  two.write("y", "the same text");
  EXPECT_EQ(Corpus::open(one.path()).fingerprint(), Corpus::open(two.path()).fingerprint());
  two.write("y", "the some text");
  EXPECT_NE(Corpus::open(one.path()).fingerprint(), Corpus::open(two.path()).fingerprint());
}

TEST(ByteTokenizer, NumbersAsByT5) {
  EXPECT_EQ(encode_bytes("A\xff"), (std::vector<int32_t>{68, 258}));
  EXPECT_EQ(kByteVocabulary, 259);
  std::string all;
  for (int b = 0; b < 256; ++b) all.push_back(static_cast<char>(b));
  EXPECT_EQ(decode_bytes(encode_bytes(all)), all);
  EXPECT_EQ(decode_bytes(std::vector<int32_t>{0, 68, 1, 2, 300, -1}), "A");
}

}  // namespace
}  // namespace tessera
