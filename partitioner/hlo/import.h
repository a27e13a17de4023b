// From an HLO module to a graph that the partitioner takes: one op of ours for one of theirs, tuples
// resolved into values, computations into regions, shardings onto values.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/ir/graph.h"
#include "partitioner/hlo/module.h"

namespace tessera::hlo {

struct ImportOptions {
  int64_t devices = 0;  // see choose_mesh
};

// One array among the parameters or results of the entry computation.
struct BoundaryLeaf {
  std::string name;      // of the parameter; "out" or "out.0.1" for results
  Ints path;             // into the tuple; empty: the whole
  int64_t parameter = -1;
  TensorType type;
};

struct Imported {
  Graph graph;  // inputs and outputs in the order of the leaves
  MeshPtr mesh;
  std::vector<BoundaryLeaf> inputs, outputs;
  // Output -> input whose value it is in the next step: the module's aliases, then its donors matched
  // in order with results of equal type, then, where it states neither, the longest run of results
  // that have the types of the first parameters.
  std::vector<std::pair<int, int>> carry;
  // The entry computation's instructions -> their leaves.
  std::vector<std::pair<std::string, std::vector<Value>>> values;
  std::vector<bool> is_tuple;  // of `values`
  int root = -1;               // of `values`; its leaves may go through more values to the outputs
  std::vector<std::string> notes;  // what was taken otherwise than written: maximal as replicated, ...
};

// Something of the module that Tessera has no op for; `unsupported` lists all of them once, sorted:
// "opcode fft", "element type c128", "custom call lapack_spotrf", "attribute ... of ...".
class UnsupportedHlo : public ConfigError {
 public:
  explicit UnsupportedHlo(std::vector<std::string> list);
  std::vector<std::string> unsupported;
};

// Throws UnsupportedHlo, and UserError (line, instruction, both shapes) where the module contradicts
// itself: a result shape that inference does not give, a missing attribute, an illegal sharding.
Imported import(const HloModule& module, const ImportOptions& options = {});

// The passes that make an imported graph good to partition: calls inlined, dead code, trip counts,
// loop invariants, constant branches, common subexpressions. Keeps inputs and outputs.
Graph simplify_imported(const Graph& graph);

// The sharding of every instruction of the entry computation after propagation, by leaves: closed, as
// nothing is left to decide. Those stated over another order of devices are as stated.
struct InstructionSharding {
  std::string instruction;
  bool is_tuple = false;
  std::vector<Sharding> leaves;
};
std::vector<InstructionSharding> propagate_shardings(const Imported& imported);

}  // namespace tessera::hlo
