// A job so small that a run takes a fraction of a second, and the folder it lives in.
//
// 2 layers, embed 32, 4 heads (llama: 2 for keys and values), 16 tokens, batches of 8 sequences, 20
// steps at a learning rate of up to 1e-2 after 4 steps of warmup, epsilon 1e-8: with it the loss
// falls from 5.6 to 2.8 nats, so that all that a step does shows in the losses.
#pragma once

#include <string>
#include <vector>

#include "tests/data/temp_folder.h"

namespace tessera::test {

// English-like text of `lines` lines, the same on every call.
std::string tiny_corpus(int lines = 400);

class TinyJob {
 public:
  explicit TinyJob(const std::string& family = "gpt2");

  const TempFolder& folder() const { return folder_; }
  // The job file, and its text.
  std::string path() const { return folder_ / "job.textproto"; }
  const std::string& text() const { return text_; }
  // An output folder by name.
  std::string output(const std::string& name) const { return folder_ / name; }
  // "train", the job, --set output_dir=NAME and `more`: what the program takes.
  std::vector<std::string> train(const std::string& output, std::vector<std::string> more = {}) const;

 private:
  TempFolder folder_;
  std::string text_;
};

// The path of a shipped sharding file, "tensor" for launch/configs/sharding/tensor.textproto.
std::string shipped_sharding(const std::string& name);

// `"text"`, as a value of --set.
std::string quoted(const std::string& text);

// "--set", "path=value".
std::vector<std::string> set(const std::string& path, const std::string& value);

std::vector<std::string> join_arguments(std::vector<std::string> first, const std::vector<std::string>& second);

}  // namespace tessera::test
