#include "tests/launch/tiny_job.h"

#include <array>
#include <random>

#include "core/base/strings.h"

namespace tessera::test {

std::string tiny_corpus(int lines) {
  constexpr std::array kWords = {"the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran", "far",
                                 "away", "to", "find", "its", "home", "while", "rain", "fell", "slowly"};
  std::mt19937 random(1);  // the standard fixes its numbers
  std::string text;
  for (int line = 0; line < lines; ++line) {
    for (int word = 0; word < 8; ++word)
      text += cat(word > 0 ? " " : "", kWords[random() % kWords.size()]);
    text += ".\n";
  }
  return text;
}

TinyJob::TinyJob(const std::string& family) {
  folder_.write("corpus.txt", tiny_corpus());
  text_ = cat("model { family: ", family, " layers: 2 embed: 32 heads: 4",
              family == "llama" ? " kv_heads: 2 mlp: 64" : "",
              " }\n"
              "data { paths: \"",
              folder_ / "corpus.txt",
              "\" holdout: 0.05 }\n"
              "schedule { kind: cosine learning_rate: 1e-2 warmup_steps: 4 }\n"
              "optimizer { epsilon: 1e-8 }\n"
              "train { steps: 20 global_batch: 8 sequence_length: 16 threads: 1 timeout_seconds: 60 }\n"
              "checkpoint { keep: 3 }\n"
              "metrics { progress: plain print_interval: 1000 tensorboard: false }\n");
  folder_.write("job.textproto", text_);
}

std::vector<std::string> TinyJob::train(const std::string& output, std::vector<std::string> more) const {
  return join_arguments({"train", path(), "--set", "output_dir=" + quoted(this->output(output))}, more);
}

std::string shipped_sharding(const std::string& name) {
  return cat(TESSERA_SOURCE_DIR, "/launch/configs/sharding/", name, ".textproto");
}

std::string quoted(const std::string& text) { return "\"" + text + "\""; }

std::vector<std::string> set(const std::string& path, const std::string& value) {
  return {"--set", path + "=" + value};
}

std::vector<std::string> join_arguments(std::vector<std::string> first,
                                        const std::vector<std::string>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

}  // namespace tessera::test
