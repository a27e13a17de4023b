#include <iostream>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/ops/philox.h"
#include "launch/data/byte_tokenizer.h"
#include "launch/generate/predictor.h"
#include "launch/generate/sampling.h"
#include "launch/verbs/open_run.h"
#include "launch/verbs/verbs.h"

namespace tessera {
namespace {

// The random site of sampling, apart from those of parameters.
constexpr uint64_t kSamplingSite = 0x73616d706c65;  // "sample"

std::vector<int32_t> sample(Predictor& model, std::vector<int32_t> tokens, const GenerateArguments& arguments) {
  // Without a prompt the text begins as a document does: after an end token.
  if (tokens.empty()) tokens.push_back(kEndToken);
  std::vector<int32_t> drawn;
  for (int64_t i = 0; i < arguments.tokens; ++i) {
    const double uniform =
        random_uniform(static_cast<uint64_t>(arguments.seed), kSamplingSite, static_cast<uint64_t>(i));
    const auto token = static_cast<int32_t>(
        sample_token(model.next_logits(tokens), {.temperature = arguments.temperature, .top_k = arguments.top_k}, uniform));
    if (token == kEndToken) break;
    drawn.push_back(token);
    tokens.push_back(token);
  }
  return drawn;
}

}  // namespace

int run_generate(const GenerateArguments& arguments) {
  CheckpointReader checkpoint = open_run(arguments.run, arguments.step);
  Predictor model(checkpoint, arguments.sets);
  const std::string text = decode_bytes(sample(model, encode_bytes(arguments.prompt), arguments));
  if (arguments.json != "-") std::cout << arguments.prompt << text << std::endl;
  if (!arguments.json.empty()) {
    const nlohmann::json report = {{"checkpoint", checkpoint.path()}, {"step", checkpoint.info().step},
                                   {"prompt", arguments.prompt}, {"text", text}};
    write_report(arguments.json, report.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  return 0;
}

}  // namespace tessera
