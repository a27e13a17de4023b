#include <iostream>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/ir/interpreter.h"
#include "launch/checkpoint/agreement.h"
#include "launch/command_line.h"
#include "launch/hlo/hlo_rank.h"
#include "launch/hlo/hlo_report.h"
#include "launch/hlo/on_ranks.h"
#include "launch/hlo/report_failure.h"
#include "launch/plan/text_table.h"
#include "launch/verbs/verbs.h"
#include "partitioner/hlo/convert_sharding.h"

namespace tessera {
namespace {

OnRanksOptions options_of(const HloArguments& arguments) {
  return {.file = arguments.file,
          .compile = {.devices = arguments.devices, .carry = arguments.carry, .strict = arguments.strict,
                      .check_passes = arguments.check_passes},
          .device = {.backend = arguments.device == "cuda" ? config::DeviceBackend::cuda : config::DeviceBackend::cpu},
          .inputs = {.files = arguments.inputs, .seed = arguments.seed, .integers = arguments.integers},
          .output_folder = arguments.output_folder,
          .json = arguments.json};
}

// ---- shardings --------------------------------------------------------------------------------

struct Notations {
  std::string tile, named;
};

// Leaves of a tuple are written as a tuple's sharding.
Notations notations_of(const hlo::InstructionSharding& instruction) {
  const auto notation = [&](hlo::HloSharding (*write)(const Sharding&)) {
    hlo::HloSharding all{.kind = hlo::HloSharding::Kind::tuple};
    for (const Sharding& leaf : instruction.leaves) all.elements.push_back(write(leaf));
    return hlo::print(instruction.is_tuple || all.elements.size() != 1 ? all : all.elements[0]);
  };
  return {notation(hlo::tile_sharding), notation(hlo::named_sharding)};
}

// A row for each leaf; those of tuples are numbered.
void add_rows(const hlo::InstructionSharding& instruction, TextTable& table) {
  for (size_t leaf = 0; leaf < instruction.leaves.size(); ++leaf) {
    const Sharding& sharding = instruction.leaves[leaf];
    table.add({instruction.is_tuple ? cat(instruction.instruction, " {", leaf, "}") : instruction.instruction,
               hlo::print(hlo::tile_sharding(sharding)), hlo::print(hlo::named_sharding(sharding))});
  }
}

// ---- run --------------------------------------------------------------------------------------

// The scalars among the outputs that no next step takes, such as a loss; all scalars where none is.
std::vector<int> shown_scalars(const HloProgram& program) {
  std::vector<int> all, results;
  for (size_t o = 0; o < program.imported.outputs.size(); ++o) {
    if (program.imported.outputs[o].type.rank() != 0) continue;
    const int output = static_cast<int>(o);
    all.push_back(output);
    const auto carries = [&](const auto& pair) { return pair.first == output; };
    if (std::none_of(program.carried.begin(), program.carried.end(), carries)) results.push_back(output);
  }
  return results.empty() ? all : results;
}

// Rank 0 writes the logical tensors; a full disk ends all ranks in order.
void write_outputs(HloRank& rank, World& world, const HloProgram& program, const std::string& folder) {
  for (size_t o = 0; o < program.imported.outputs.size(); ++o) {
    const HostTensor whole = rank.gather(static_cast<int>(o));
    const Outcome outcome = run_on_first(&world, [&]() -> std::string {
      write_npy(output_file(folder, o), whole);
      return "";
    });
    if (outcome.failed()) throw_failure(outcome.failure, outcome.error);
  }
}

// All steps of one rank. Scalars are printed as they come; without --carry every step gives the same.
RunRecord run_steps(const HloArguments& arguments, const PreparedProgram& prepared, HloRank& rank, World& world) {
  RunRecord record;
  const HloProgram& program = prepared.program;
  const std::vector<int> scalars = shown_scalars(program);
  rank.feed(prepared.inputs);
  for (int64_t step = 1; step <= arguments.steps; ++step) {
    if (step > 1 && !arguments.carry) rank.feed_overwritten(prepared.inputs);
    record.seconds.push_back(rank.step());
    if (world.rank() != 0 || scalars.empty() || (!arguments.carry && step > 1)) continue;
    std::string line = cat("step ", step, ":");
    for (int output : scalars) {
      const std::string& name = program.imported.outputs[static_cast<size_t>(output)].name;
      const HostTensor value = rank.scalar(output);
      if (value.dtype() != DType::c64) record.scalars[name].push_back(value.get_real(0));
      line += cat(" ", name, " ", print_scalar(value));
    }
    std::cout << line << std::endl;
  }
  return record;
}

int run_rank(const HloArguments& arguments, const PreparedProgram& prepared, World& world, Backend& backend) {
  const HloProgram& program = prepared.program;
  HloRank rank(program, backend, world);
  if (world.rank() == 0) {
    std::cout << describe_program(prepared);
    if (arguments.carry) std::cout << describe_carry(program);
  }
  const RunRecord record = run_steps(arguments, prepared, rank, world);
  if (!arguments.output_folder.empty()) write_outputs(rank, world, program, arguments.output_folder);
  if (world.rank() != 0) return kExitDone;
  const StepTimes times = step_times(record.seconds);
  std::cout << arguments.steps << (arguments.steps == 1 ? " step: " : " steps: best ") << human_seconds(times.best);
  if (arguments.steps > 1) std::cout << ", median " << human_seconds(times.median) << " (without the first)";
  std::cout << "\n";
  if (!arguments.output_folder.empty())
    std::cout << program.imported.outputs.size() << " outputs written: " << output_file(arguments.output_folder, 0) << ", ...\n";
  std::cout << std::flush;
  if (!arguments.json.empty()) write_report(arguments.json, run_json(prepared, record, arguments.output_folder));
  return kExitDone;
}

// ---- check ------------------------------------------------------------------------------------

// What the program means, as for one device.
std::vector<HostTensor> interpret_whole(const PreparedProgram& prepared) {
  std::vector<HostTensor> inputs;
  for (size_t i = 0; i < prepared.inputs.size(); ++i) inputs.push_back(prepared.inputs.whole(i));
  return interpret(prepared.program.imported.graph, inputs);
}

int report_check(const HloArguments& arguments, const PreparedProgram& prepared, double tolerance,
                 const Comparison& comparison) {
  const HloProgram& program = prepared.program;
  std::cout << describe_program(prepared);
  if (comparison.not_finite > 0)
    std::cout << "note: " << comparison.not_finite << " elements are NaN or infinite on both sides; --input or another --seed tells more\n";
  std::cout << (comparison.equal() ? "equal" : "not equal") << ": " << program.imported.outputs.size()
            << " outputs, largest relative error " << print_scalar(comparison.max_relative_error) << ", tolerance "
            << print_double(tolerance) << "\n";
  if (comparison.first) std::cout << "first difference: " << describe_difference(program, *comparison.first) << "\n";
  std::cout << std::flush;
  if (!arguments.json.empty()) write_report(arguments.json, check_json(prepared, comparison, tolerance));
  return comparison.equal() ? kExitDone : kExitFailed;
}

int check_rank(const HloArguments& arguments, const PreparedProgram& prepared,
               const std::vector<HostTensor>& expected, World& world, Backend& backend) {
  const HloProgram& program = prepared.program;
  const double tolerance = tolerance_of(program.imported.graph);
  HloRank rank(program, backend, world);
  rank.feed(prepared.inputs);
  rank.step();
  Comparison comparison;
  for (size_t o = 0; o < program.imported.outputs.size(); ++o) {
    const HostTensor actual = rank.gather(static_cast<int>(o));
    if (world.rank() == 0) compare_output(o, expected[o], actual, tolerance, comparison);
  }
  const int code = world.rank() == 0 ? report_check(arguments, prepared, tolerance, comparison) : kExitDone;
  return static_cast<int>(world.all_reduce_max(code));
}

}  // namespace

int run_hlo_print(const HloArguments& arguments) {
  std::cout << hlo::print(hlo::parse(read_hlo_text(arguments.file))) << std::flush;
  return kExitDone;
}

int run_hlo_shardings(const HloArguments& arguments) {
  return with_failures_reported(arguments.json, [&] {
    const hlo::Imported imported = hlo::import(hlo::parse(read_hlo_text(arguments.file)), {arguments.devices});
    nlohmann::ordered_json json = nlohmann::ordered_json::object();
    TextTable table({"instruction", "tile", "named"});
    for (const hlo::InstructionSharding& instruction : hlo::propagate_shardings(imported)) {
      const Notations notations = notations_of(instruction);
      json[instruction.instruction] = {{"tile", notations.tile}, {"named", notations.named}};
      add_rows(instruction, table);
    }
    if (arguments.json != "-") std::cout << table.print() << std::flush;
    if (!arguments.json.empty()) write_report(arguments.json, json.dump(2));
    return kExitDone;
  });
}

int run_hlo_run(const HloArguments& arguments) {
  return with_failures_reported(arguments.json, [&] {
    return on_ranks(options_of(arguments), [](const PreparedProgram&) {},
                    [&](const PreparedProgram& prepared, World& world, Backend& backend) {
                      return run_rank(arguments, prepared, world, backend);
                    });
  });
}

int run_hlo_check(const HloArguments& arguments) {
  return with_failures_reported(arguments.json, [&] {
    std::vector<HostTensor> expected;  // on rank 0
    return on_ranks(options_of(arguments), [&](const PreparedProgram& prepared) { expected = interpret_whole(prepared); },
                    [&](const PreparedProgram& prepared, World& world, Backend& backend) {
                      return check_rank(arguments, prepared, expected, world, backend);
                    });
  });
}

}  // namespace tessera
