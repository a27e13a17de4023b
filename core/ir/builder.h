// Appends instructions to a graph, with inferred types.
#pragma once

#include <string>
#include <vector>

#include "core/ir/graph.h"

namespace tessera {

class Builder {
 public:
  explicit Builder(Graph& graph) : graph_(graph) {}

  // Appends one instruction; the Value is its result 0, further results are {value.instruction, i}.
  // Throws UserError from the op's infer with the scope in front.
  Value emit(const OpDef& op, std::vector<Value> operands, Attributes attributes = {});

  // An input named `name`. `logical_axes` has a name per dim, or is empty.
  Value input(InputKind kind, std::string name, TensorType type,
              std::vector<std::string> logical_axes = {});
  void output(Value value, std::string name, int alias_input = -1);

  // Names the dims of an activation, for the sharding rules.
  Value annotate(Value value, std::vector<std::string> logical_axes, std::string name = "");

  // Scopes nest: push("block.0"), push("attention") gives "block.0/attention".
  void push_scope(const std::string& name);
  void pop_scope();
  const std::string& scope() const { return scope_; }
  void set_scope(std::string scope) { scope_ = std::move(scope); }
  void set_recompute(bool recompute) { recompute_ = recompute; }
  bool recompute() const { return recompute_; }

  Graph& graph() { return graph_; }
  const TensorType& type(Value value) const { return graph_.type(value); }
  const Shape& shape(Value value) const { return graph_.type(value).shape; }
  DType dtype(Value value) const { return graph_.type(value).dtype; }

 private:
  Graph& graph_;
  std::string scope_;
  bool recompute_ = false;
};

// Scope for a C++ block.
class ScopeGuard {
 public:
  ScopeGuard(Builder& builder, const std::string& name) : builder_(builder) { builder.push_scope(name); }
  ~ScopeGuard() { builder_.pop_scope(); }
  ScopeGuard(const ScopeGuard&) = delete;

 private:
  Builder& builder_;
};

// What a gradient rule sees. Residuals are asked for by operand() and result(), so that the
// rematerialisation policy can answer with a recomputed value (core/autodiff).
class GradContext {
 public:
  virtual ~GradContext() = default;
  virtual Builder& builder() = 0;
  virtual const Attributes& attributes() const = 0;
  virtual int operand_count() const = 0;
  virtual Value operand(int index) = 0;   // as a residual
  virtual Value result(int index) = 0;    // as a residual
  virtual const TensorType& operand_type(int index) const = 0;
  virtual const TensorType& result_type(int index) const = 0;
  virtual bool has_cotangent(int result) const = 0;
  virtual Value cotangent(int result) = 0;  // zeros where none came
  virtual bool needs_gradient(int operand) const = 0;
  // The dtype in which the operand's cotangent is wanted. Rules that can produce an accumulator's
  // precision at no cost (dot_general, embedding, sums) follow it; the others give the operand's.
  virtual DType gradient_dtype(int operand) const { return operand_type(operand).dtype; }
};

}  // namespace tessera
