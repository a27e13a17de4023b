// Small modules in the importer's tests: text in, values out.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "core/ir/interpreter.h"
#include "core/ir/verifier.h"
#include "core/passes/inline_calls.h"
#include "partitioner/hlo/import.h"

namespace tessera::hlo::testing {

using Reals = std::vector<double>;

template <typename T>
HostTensor tensor(Shape shape, std::initializer_list<T> values) {
  return HostTensor::of<T>(std::move(shape), std::span<const T>(values.begin(), values.size()));
}
inline HostTensor floats(std::initializer_list<float> values) {
  return tensor<float>({static_cast<int64_t>(values.size())}, values);
}
inline HostTensor integers(std::initializer_list<int32_t> values) {
  return tensor<int32_t>({static_cast<int64_t>(values.size())}, values);
}
// 0, 1, 2, ... in a dtype.
inline HostTensor counting(DType dtype, Shape shape) {
  HostTensor x({dtype, std::move(shape)});
  for (int64_t i = 0; i < x.elements(); ++i) x.set_real(i, static_cast<double>(i));
  return x;
}

inline Reals reals(const HostTensor& x) {
  Reals values;
  for (int64_t i = 0; i < x.elements(); ++i) values.push_back(x.get_real(i));
  return values;
}

// `body` as the entry computation, from line 4 on where there are no other computations.
inline std::string module_of(std::string_view body, std::string_view computations = "") {
  if (body.starts_with('\n')) body.remove_prefix(1);
  return cat("HloModule test\n", computations, "\nENTRY main {\n", body, "\n}\n");
}

// A combiner of two scalars, (x, y) or swapped.
inline std::string scalar_region(std::string_view name, std::string_view opcode,
                                 std::string_view dtype = "f32", bool is_swapped = false) {
  return cat(name, " {\n  x = ", dtype, "[] parameter(0)\n  y = ", dtype,
             "[] parameter(1)\n  ROOT r = ", dtype, "[] ", opcode,
             is_swapped ? "(y, x)\n}\n" : "(x, y)\n}\n");
}
// Of two pairs (f32, s32): one opcode for the floats, one for the integers.
inline std::string pair_region(std::string_view name, std::string_view on_floats,
                               std::string_view on_integers) {
  return cat(name, R"( {
  a = f32[] parameter(0)
  b = s32[] parameter(1)
  c = f32[] parameter(2)
  d = s32[] parameter(3)
  e = f32[] )",
             on_floats, "(a, c)\n  g = s32[] ", on_integers,
             "(b, d)\n  ROOT t = (f32[], s32[]) tuple(e, g)\n}\n");
}

inline Imported import_text(std::string_view text) {
  Imported imported = import(parse(text));
  verify(imported.graph, GraphStage::built);
  return imported;
}

// Imported and interpreted as a whole.
inline std::vector<HostTensor> run_module(std::string_view text,
                                          const std::vector<HostTensor>& inputs = {}) {
  return interpret(import_text(text).graph, inputs);
}
inline HostTensor run_entry(std::string_view body, const std::vector<HostTensor>& inputs = {},
                            std::string_view computations = "") {
  return run_module(module_of(body, computations), inputs).at(0);
}

// How many instructions of the graph are `op`.
inline int count_of(const Graph& graph, std::string_view op) {
  int count = 0;
  for (const Instruction& instruction : graph.instructions) count += instruction.op->name == op;
  return count;
}
inline const Instruction* find_op(const Graph& graph, std::string_view op) {
  for (const Instruction& instruction : graph.instructions)
    if (instruction.op->name == op) return &instruction;
  return nullptr;
}

// NaN where NaN is wanted; else within a few units of f32, relative to the larger of 1 and the
// value.
inline void expect_near(const HostTensor& got, const Reals& wanted, double tolerance = 2e-6) {
  const Reals values = reals(got);
  ASSERT_EQ(values.size(), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (std::isnan(wanted[i]) || std::isinf(wanted[i])) {
      EXPECT_TRUE(std::isnan(wanted[i]) ? std::isnan(values[i]) : values[i] == wanted[i])
          << "element " << i << ": " << values[i] << " is not " << wanted[i];
    } else {
      EXPECT_NEAR(values[i], wanted[i], tolerance * std::max(1.0, std::abs(wanted[i])))
          << "element " << i;
    }
  }
}

// What import of the text says, "" where it is content.
inline std::string import_error(std::string_view text) {
  try {
    import(parse(text));
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}
inline std::vector<std::string> unsupported_of(std::string_view text) {
  try {
    import(parse(text));
  } catch (const UnsupportedHlo& error) {
    return error.unsupported;
  }
  return {};
}

inline void expect_error(std::string_view text, const std::vector<std::string>& parts) {
  const std::string message = import_error(text);
  EXPECT_NE(message, "") << text;
  for (const std::string& part : parts)
    EXPECT_NE(message.find(part), std::string::npos)
        << "\"" << message << "\" lacks \"" << part << "\"";
}

}  // namespace tessera::hlo::testing
