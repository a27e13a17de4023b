// The parts of building a StepGraph share this: step_graph.cpp makes nodes and buffers,
// control_steps.cpp loops and branches, overwrite.cpp places the outputs that must lie over inputs.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "core/compile/step_graph.h"

namespace tessera {

// while, case, call: what runs regions.
bool is_control(const Instruction& instruction);

class StepGraphBuilder {
 public:
  StepGraphBuilder(const Graph& graph, const KernelTable& kernels);
  // A region: `over` names the input that each output must overwrite, or -1; with `own_outputs` the
  // others fill whole buffers of their own, which the caller will place.
  StepGraphBuilder(const Graph& graph, const KernelTable& kernels, std::vector<int> over,
                   bool own_outputs);
  StepGraph build();

 private:
  int buffer_of(Value value) const {
    return first_buffer_[static_cast<size_t>(value.instruction)] + value.result;
  }
  int barrier_of(int buffer) const {
    return static_cast<size_t>(buffer) < barrier_.size() ? barrier_[static_cast<size_t>(buffer)] : -1;
  }
  BufferPlan& buffer(int number) { return made_.buffers[static_cast<size_t>(number)]; }
  StepNode& node(int number) { return made_.nodes[static_cast<size_t>(number)]; }

  void make_buffers();
  void mark_kept_slices();
  void make_nodes();
  int one_number_of(Value value);
  void drop_unread_fills();
  void make_node(int index);
  void choose_kernel(StepNode& node, const Instruction& instruction);
  void choose_communicator(StepNode& node, const Instruction& instruction);
  void place_members();
  bool place_members_of(int node);
  bool may_be_member(int operand, int64_t offset, const std::set<int>& taken) const;
  void make_edges();
  // Nodes whose completion makes the content of `buffer` ready.
  void add_sources(int buffer, std::vector<int>& sources) const;

  // control_steps.cpp
  void make_control(int index);
  void make_loop(ControlSteps& control, const Instruction& instruction);
  void make_branch(ControlSteps& control, int index);
  void add_region(ControlSteps& control, const GraphRef& graph, std::string role,
                  std::vector<int> over, bool own_outputs);
  void choose_carried(ControlSteps& control, const Instruction& instruction, int index) const;
  void make_barrier(int index);

  // overwrite.cpp
  void place_outputs();
  void separate_output(size_t output);  // an output that lies in an input or a constant: copy it
  void own_outputs();
  bool overwrite_directly(int value, int input);
  void overwrite_by_copy(size_t output, int input);
  bool may_write_over(const StepNode& writer, int value, int input);
  // Of each result of a kernel's instruction the operand that it may be written over, or -1.
  const std::vector<int>& in_place_operands(const StepNode& kernel);
  static int carried_operand(const StepNode& control, int result);  // operand number, or -1
  bool reaches(int from, const std::set<int>& targets) const;
  std::vector<int> readers_of(int input) const;
  int add_copy(int from, int to);
  int add_buffer(const BufferPlan& like, const std::string& name);

  const Graph& graph_;
  const KernelTable& kernels_;
  std::vector<int> over_;    // output -> the input it must overwrite, or -1
  bool own_outputs_ = false;
  std::vector<std::shared_ptr<ControlSteps>> controls_;  // instruction -> its regions
  std::vector<int> barrier_;                             // buffer -> the instruction of its barrier, or -1
  std::vector<bool> pinned_;                             // buffer -> has its place; no member of anything
  StepGraph made_;
  std::vector<int> first_buffer_;                // instruction -> its result 0's buffer
  std::map<int, int> one_number_;                // instruction of a filled constant -> a buffer with one element
  std::vector<bool> kept_slice_;                 // instruction -> a slice that is no view
  std::vector<int> writer_;                      // buffer -> node, or -1
  std::vector<int> position_;                    // node -> place in the program, by which ties go
  std::vector<bool> removed_;                    // node -> a concatenate that costs nothing
  std::vector<std::vector<int>> members_;        // buffer -> members, of a removed concatenate
  std::map<int, std::vector<int>> instead_;      // removed concatenate -> copies of its operands
  std::vector<std::vector<int>> after_;          // node -> nodes that come later; for reaches()
  std::vector<std::vector<int>> input_readers_;  // buffer -> nodes that read memory rooted there
  std::map<int, std::vector<int>> in_place_operands_;  // instruction -> what is known of it
};

}  // namespace tessera
