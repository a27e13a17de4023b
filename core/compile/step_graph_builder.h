// The two halves of building a StepGraph share this: step_graph.cpp makes nodes and buffers,
// overwrite.cpp places the outputs that must lie over inputs.
#pragma once

#include <set>
#include <vector>

#include "core/compile/step_graph.h"

namespace tessera {

class StepGraphBuilder {
 public:
  StepGraphBuilder(const Graph& graph, const KernelTable& kernels)
      : graph_(graph), kernels_(kernels) {}
  StepGraph build();

 private:
  int buffer_of(Value value) const {
    return first_buffer_[static_cast<size_t>(value.instruction)] + value.result;
  }
  BufferPlan& buffer(int number) { return made_.buffers[static_cast<size_t>(number)]; }
  StepNode& node(int number) { return made_.nodes[static_cast<size_t>(number)]; }

  void make_buffers();
  void mark_kept_slices();
  void make_nodes();
  void make_node(int index);
  void choose_kernel(StepNode& node, const Instruction& instruction);
  void choose_communicator(StepNode& node, const Instruction& instruction);
  void place_members();
  bool place_members_of(int node);
  bool may_be_member(int operand, int64_t offset, const std::set<int>& taken) const;
  void make_edges();
  // Nodes whose completion makes the content of `buffer` ready.
  void add_sources(int buffer, std::vector<int>& sources) const;

  // overwrite.cpp
  void place_outputs();
  void separate_output(size_t output);  // an output that lies in an input or a constant: copy it
  bool overwrite_directly(int value, int input);
  void overwrite_by_copy(size_t output, int input);
  bool may_write_over(const StepNode& writer, int value, int input) const;
  bool reaches(int from, const std::set<int>& targets) const;
  std::vector<int> readers_of(int input) const;
  int add_copy(int from, int to);
  int add_buffer(const BufferPlan& like, const std::string& name);

  const Graph& graph_;
  const KernelTable& kernels_;
  StepGraph made_;
  std::vector<int> first_buffer_;                // instruction -> its result 0's buffer
  std::vector<bool> kept_slice_;                 // instruction -> a slice that is no view
  std::vector<int> writer_;                      // buffer -> node, or -1
  std::vector<int> position_;                    // node -> place in the program, by which ties go
  std::vector<bool> removed_;                    // node -> a concatenate that costs nothing
  std::vector<std::vector<int>> members_;        // buffer -> members, of a removed concatenate
  std::vector<std::vector<int>> after_;          // node -> nodes that come later; for reaches()
  std::vector<std::vector<int>> input_readers_;  // buffer -> nodes that read memory rooted there
};

}  // namespace tessera
