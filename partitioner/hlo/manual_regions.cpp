#include "partitioner/hlo/manual_regions.h"

#include <algorithm>
#include <set>

#include "core/base/error.h"
#include "partitioner/hlo/import_annotations.h"
#include "partitioner/hlo/sdy.h"
#include "partitioner/hlo/stated_sharding.h"

namespace tessera::hlo {
namespace {

constexpr std::string_view kCollectives[] = {
    "all-reduce",         "all-gather",           "reduce-scatter",    "all-to-all",
    "collective-permute", "collective-broadcast", "ragged-all-to-all", "partition-id"};

std::vector<std::vector<int>> users_of(const HloComputation& computation) {
  std::vector<std::vector<int>> users(computation.instructions.size());
  for (size_t i = 0; i < computation.instructions.size(); ++i)
    for (int operand : computation.instructions[i].operands)
      users[static_cast<size_t>(operand)].push_back(static_cast<int>(i));
  return users;
}

// ---- New style: LocalToGlobalShape(call(GlobalToLocalShape(xs...)))
// -------------------------------

class NewStyle {
 public:
  NewStyle(const HloModule& module, HloComputation& computation)
      : module_(module),
        computation_(computation),
        users_(users_of(computation)),
        candidates_(computation.instructions.size(), false) {}

  void run() {
    bool any = false;
    for (size_t i = 0; i < computation_.instructions.size(); ++i)
      if (is_custom_call(computation_.instructions[i], kLocalToGlobal)) {
        join(computation_.instructions[i]);
        any = true;
      }
    // A body without results is a call whose operands nobody brings back.
    for (size_t i = 0; i < computation_.instructions.size(); ++i)
      if (is_custom_call(computation_.instructions[i], kGlobalToLocal)) {
        mark(static_cast<int>(i));
        any = true;
      }
    if (any) drop_unused(computation_, std::vector<bool>(candidates_.size(), false), candidates_);
  }

 private:
  HloInstruction& at(int index) { return computation_.instructions[static_cast<size_t>(index)]; }

  // The instruction and what goes from it to the call and behind may go.
  void mark(int index) {
    candidates_[static_cast<size_t>(index)] = true;
    for (int user : users_[static_cast<size_t>(index)])
      if (const std::string& opcode = at(user).opcode;
          opcode == "get-tuple-element" || opcode == "call")
        mark(user);
  }

  // Whether `value` is element `number` of `count` of the instruction that is returned (-1: not).
  int source_of(int value, size_t number, size_t count) {
    const HloInstruction& instruction = at(value);
    if (instruction.opcode != "get-tuple-element")
      return count == 1 && !instruction.shape.is_tuple ? value : -1;
    const auto* index = instruction.get<int64_t>("index");
    return index && *index == static_cast<int64_t>(number) && instruction.operands.size() == 1
               ? instruction.operands[0]
               : -1;
  }

  void join(HloInstruction& back) {
    const size_t results = back.operands.size();
    int call = -1;
    for (size_t r = 0; r < results; ++r) {
      const int source = source_of(back.operands[r], r, results);
      if (source < 0 || at(source).opcode != "call" || (r > 0 && source != call))
        refuse(back, "must take all results of one call, in order");
      call = source;
    }
    if (call < 0) refuse(back, "must take all results of one call, in order");
    if (at(call).shape.leaves().size() != results)
      refuse(back, cat("takes ", results, " of the ", at(call).shape.leaves().size(),
                       " results of ", at(call).name));
    mark(call);
    const int there = source_of_operands(at(call));
    set_up(back, at(call), there);
  }

  // The GlobalToLocalShape that a call's operands come from; -1 where it has none.
  int source_of_operands(const HloInstruction& call) {
    int there = -1;
    for (size_t o = 0; o < call.operands.size(); ++o) {
      const int source = source_of(call.operands[o], o, call.operands.size());
      if (source < 0 || !is_custom_call(at(source), kGlobalToLocal) || (o > 0 && source != there))
        refuse(call, cat("must take all results of one ", kGlobalToLocal, ", in order"));
      there = source;
    }
    if (there >= 0 && at(there).operands.size() != call.operands.size())
      refuse(call, cat("takes ", call.operands.size(), " of the ", at(there).operands.size(),
                       " results of ", at(there).name));
    return there;
  }

  // `back` becomes the call of the region.
  void set_up(HloInstruction& back, const HloInstruction& call, int there) {
    std::vector<HloSharding> in, out = shardings(back, "xla.sdy.out_shardings");
    std::vector<int> operands;
    if (there >= 0) {
      in = shardings(at(there), "xla.sdy.in_shardings");
      operands = at(there).operands;
    }
    const HloSharding manual = manual_sharding(back, in.empty() ? out : in);
    const auto* body = call.get<Name>("to_apply");
    if (!body) refuse(call, "needs to_apply");
    back.attributes = {{"custom_call_target", std::string(kManualCall), back.line},
                       {"to_apply", *body, back.line},
                       {"in_shardings", tuple_of(std::move(in)), back.line},
                       {"out_shardings", tuple_of(std::move(out)), back.line},
                       {"manual", manual, back.line},
                       {"outside", HloSharding{}, back.line}};
    back.operands = std::move(operands);
  }

  // One that has the manual axes as such.
  HloSharding manual_sharding(const HloInstruction& back, const std::vector<HloSharding>& like) {
    HloSharding manual;
    manual.kind = HloSharding::Kind::named;
    for (const std::string& axis :
         parse_sdy_manual_axes(frontend_attribute(back, "xla.sdy.manual_axes")))
      manual.manual_axes.push_back({axis});
    for (const HloSharding& sharding : like)
      if (sharding.kind == HloSharding::Kind::named) manual.mesh = sharding.mesh;
    return manual;
  }

  std::vector<HloSharding> shardings(const HloInstruction& instruction, std::string_view name) {
    const std::string text = frontend_attribute(instruction, name);
    if (text.empty()) refuse(instruction, cat("needs the frontend attribute ", name));
    std::vector<HloSharding> list = parse_sdy_shardings(text, sdy_meshes(module_));
    if (list.size() != instruction.operands.size())
      refuse(instruction, cat(list.size(), " shardings in ", name, " for ",
                              instruction.operands.size(), " arrays"));
    return list;
  }

  [[noreturn]] void refuse(const HloInstruction& instruction, const std::string& what) const {
    throw_user_error(where(instruction), ": ", instruction.opcode, " of a manual computation ",
                     what);
  }

  const HloModule& module_;
  HloComputation& computation_;
  const std::vector<std::vector<int>> users_;
  std::vector<bool> candidates_;
};

// ---- What must not stand outside
// ------------------------------------------------------------------

class CollectiveCheck {
 public:
  explicit CollectiveCheck(const HloModule& module) : module_(module) {
    for (size_t c = 0; c < module.computations.size(); ++c)
      number_of_.emplace(module.computations[c].name, static_cast<int>(c));
  }

  void run() {
    open_.push_back(module_.entry);
    while (!open_.empty()) {
      const int c = open_.back();
      open_.pop_back();
      if (c < 0 || !seen_.insert(c).second) continue;
      for (const HloInstruction& instruction :
           module_.computations[static_cast<size_t>(c)].instructions)
        visit(instruction);
    }
  }

 private:
  void visit(const HloInstruction& instruction) {
    if (is_custom_call(instruction, kManualCall)) return;
    if (std::find(std::begin(kCollectives), std::end(kCollectives), instruction.opcode) !=
        std::end(kCollectives))
      throw_user_error(
          where(instruction), ": ", instruction.opcode,
          " stands outside a manual region: there a program is as if for one device, and the "
          "partitioner puts collectives in; leave it out, or put it between SPMDFullToShardShape "
          "and SPMDShardToFullShape (in JAX: into a shard_map)");
    for (const std::string& callee : called_by(instruction)) push(callee);
  }
  void push(const std::string& name) {
    if (const auto found = number_of_.find(name); found != number_of_.end())
      open_.push_back(found->second);
  }

  const HloModule& module_;
  std::map<std::string, int, std::less<>> number_of_;
  std::vector<int> open_;
  std::set<int> seen_;
};

// Calls are inlined, and passes go into every region by itself: what doubles at each of many levels
// of calls never ends.
void check_expanded_size(const HloModule& module) {
  constexpr double kMost = 1e6;
  std::map<std::string_view, double> size_of;
  for (const HloComputation& computation : module.computations) {
    double size = static_cast<double>(computation.instructions.size());
    for (const HloInstruction& instruction : computation.instructions)
      for (const std::string& callee : called_by(instruction))
        if (const auto found = size_of.find(callee); found != size_of.end()) size += found->second;
    if (size > kMost)
      throw_user_error("the computation ", computation.name,
                       " with all that it calls has more than ", static_cast<int64_t>(kMost),
                       " instructions");
    size_of.emplace(computation.name, size);
  }
}

bool has_border(const HloComputation& computation) {
  return std::any_of(computation.instructions.begin(), computation.instructions.end(),
                     [](const HloInstruction& instruction) {
                       return is_custom_call(instruction, kFullToShard) ||
                              is_custom_call(instruction, kShardToFull) ||
                              is_custom_call(instruction, kGlobalToLocal) ||
                              is_custom_call(instruction, kLocalToGlobal);
                     });
}

bool has_old_style(const HloComputation& computation) {
  return std::any_of(computation.instructions.begin(), computation.instructions.end(),
                     [](const HloInstruction& instruction) {
                       return is_custom_call(instruction, kFullToShard) ||
                              is_custom_call(instruction, kShardToFull);
                     });
}

}  // namespace

bool is_custom_call(const HloInstruction& instruction, std::string_view target) {
  if (instruction.opcode != "custom-call") return false;
  const HloAttribute* attribute = instruction.find("custom_call_target");
  const auto* name = attribute ? std::get_if<std::string>(&attribute->value) : nullptr;
  return name && *name == target;
}

std::vector<std::string> called_by(const HloInstruction& instruction) {
  std::vector<std::string> names;
  const bool is_call = instruction.opcode == "call" || is_custom_call(instruction, kManualCall);
  for (const char* name :
       {"to_apply", "condition", "body", "true_computation", "false_computation"})
    if (const HloAttribute* attribute = instruction.find(name))
      if (const auto* callee = std::get_if<Name>(&attribute->value);
          callee && (is_call || attribute->name != "to_apply"))
        names.push_back(callee->text);
  if (const HloAttribute* attribute = instruction.find("branch_computations"))
    if (const auto* callees = std::get_if<Names>(&attribute->value))
      names.insert(names.end(), callees->list.begin(), callees->list.end());
  return names;
}

void drop_unused(HloComputation& computation, std::vector<bool> dropped,
                 const std::vector<bool>& candidates) {
  std::vector<HloInstruction>& all = computation.instructions;
  std::vector<int> uses(all.size(), 0);
  for (size_t i = 0; i < all.size(); ++i)
    if (!dropped[i])
      for (int operand : all[i].operands) ++uses[static_cast<size_t>(operand)];
  for (size_t i = all.size(); i-- > 0;) {
    if (dropped[i] || !candidates[i] || uses[i] > 0 || static_cast<int>(i) == computation.root)
      continue;
    dropped[i] = true;
    for (int operand : all[i].operands) --uses[static_cast<size_t>(operand)];
  }
  std::vector<int> number(all.size(), -1);
  std::vector<HloInstruction> kept;
  for (size_t i = 0; i < all.size(); ++i) {
    if (dropped[i]) continue;
    number[i] = static_cast<int>(kept.size());
    for (int& operand : all[i].operands) {
      TESSERA_CHECK(number[static_cast<size_t>(operand)] >= 0, all[i].name,
                    " uses what is dropped");
      operand = number[static_cast<size_t>(operand)];
    }
    kept.push_back(std::move(all[i]));
  }
  computation.root = number[static_cast<size_t>(computation.root)];
  all = std::move(kept);
}

std::optional<HloModule> outline_manual_regions(const HloModule& module) {
  check_expanded_size(module);
  if (std::none_of(module.computations.begin(), module.computations.end(), has_border)) {
    CollectiveCheck(module).run();
    return std::nullopt;
  }
  HloModule outlined = module;
  for (HloComputation& computation : outlined.computations) NewStyle(module, computation).run();
  // New computations stand before the one that they come from, and are looked at next.
  for (int c = static_cast<int>(outlined.computations.size()) - 1; c >= 0; --c) {
    if (!has_old_style(outlined.computations[static_cast<size_t>(c)])) continue;
    c += outline_shard_shapes(outlined, c);
  }
  CollectiveCheck(outlined).run();
  return outlined;
}

}  // namespace tessera::hlo
