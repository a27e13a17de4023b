// Whatever stands in a config or on the command line: a config or a ConfigError, never anything
// else.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "core/base/strings.h"
#include "tests/config/config_test_util.h"

namespace tessera {
namespace {

// A text with a few characters cut out, doubled or replaced.
std::string damaged(std::string text) {
  const int edits = *rc::gen::inRange(1, 6);
  for (int i = 0; i < edits && !text.empty(); ++i) {
    const size_t at = *rc::gen::inRange<size_t>(0, text.size());
    const size_t length = *rc::gen::inRange<size_t>(0, 8);
    const auto junk =
        *rc::gen::element<std::string>("", "{", "}", "[", "]", ":", "\"", ",", "-", "\t", "#", "x",
                                       "9", "<", "{ a: 1 }", "\xff", "\\");
    text.replace(at, std::min(length, text.size() - at), junk);
  }
  return text;
}

RC_GTEST_PROP(Garbage, InAJobIsAConfigErrorAtWorst, ()) {
  const std::string whole =
      cat(kSmallJob,
          "sharding {\n  mesh [{ name: 'data' size: -1 }, { name: \"model\" }]\n"
          "  parameter_rules { logical: \"embed\" axes: [\"data\", \"model\"] if_divides: true }\n"
          "  overrides { tensor: \"w.*\" dims { axes: \"data\" } dims {} }\n}\n"
          "schedule { kind: rsqrt learning_rate: 1e-3 } optimizer { no_decay: [\"a\", 'b'] }\n");
  const std::string text = damaged(whole);
  RC_LOG() << text << std::endl;
  try {
    const JobConfig job = load_job_text(text, "job.textproto", on_devices(2));
    RC_ASSERT(load_job_text(effective_text(job), "again", on_devices(2)) == job);
  } catch (const ConfigError& error) {
    RC_ASSERT(std::string(error.what()).size() > 10);
  }
}

RC_GTEST_PROP(Garbage, InASetIsAConfigErrorAtWorst, ()) {
  const std::string set = damaged(*rc::gen::element<std::string>(
      "train.steps=5", "sharding.mesh[0].size=4", "data.paths+=[a, \"b\"]", "eval={interval: 5}",
      "sharding.parameter_rules+={logical: \"embed\" axes: [\"data\"]}", "model.family=gpt2"));
  RC_LOG() << set << std::endl;
  try {
    small_job(on_devices(1, {set}));
  } catch (const ConfigError&) {
  }
  LoadOptions options = on_devices(2);
  options.mesh = damaged("data=2,model=-1");
  try {
    small_job(options);
  } catch (const ConfigError&) {
  }
}

}  // namespace
}  // namespace tessera
