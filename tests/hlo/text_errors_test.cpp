// Every refusal of the parser: line, column, what stood there, what was expected.
#include <gtest/gtest.h>

#include "core/base/strings.h"
#include "tests/hlo/hlo_testing.h"

namespace tessera::hlo {
namespace {

using ::tessera::testing::entry_of;
using ::tessera::testing::refusal;

struct Case {
  std::string text;
  std::string message;  // how it starts
};

void expect_messages(const std::vector<Case>& cases, std::string (*wrap)(const std::string&)) {
  for (const Case& c : cases)
    EXPECT_EQ(refusal(wrap(c.text)).substr(0, c.message.size()), c.message) << c.text;
}

std::string as_it_is(const std::string& text) { return text; }
// On line 4, with the instruction before it on line 3.
std::string in_entry(const std::string& text) { return entry_of(text); }
// The value starts in column 18 of line 4.
std::string as_attribute(const std::string& text) { return entry_of("p = f32[] foo(), " + text); }
std::string repeated(std::string_view text, int times) {
  std::string result;
  for (int i = 0; i < times; ++i) result += text;
  return result;
}

TEST(HloErrors, Module) {
  const std::string entry = "ENTRY e { p = (f32[], f32[]) parameter(0) }";
  expect_messages(
      {
          {"", "line 1, column 1: expected HloModule, not the end of the text"},
          {"\n  modul m", "line 2, column 3: expected HloModule, not \"modul\""},
          {"module @jit_f attributes {}",
           "line 1, column 1: this is StableHLO (MLIR), not HLO text; in JAX, print it with "
           "lowered.as_text(dialect=\"hlo\")"},
          {"HloModule",
           "line 1, column 10: expected the name of the module, not the end of the text"},
          {"HloModule m", "line 1, column 12: expected a computation, not the end of the text"},
          {"HloModule m f { p = f32[] parameter(0) }",
           "line 1, column 41: the module has no ENTRY computation; put ENTRY before its name"},
          {"HloModule m, =3",
           "line 1, column 14: expected the name of an attribute of the module, not \"=\""},
          {"HloModule m, x 3",
           "line 1, column 16: expected \"=\" after the attribute x, not \"3\""},
          {"HloModule m, x=1, x=1", "line 1, column 19: the attribute x stands twice"},
          {"HloModule m, FileNames=3", "line 1, column 14: FileNames is a table, not an attribute"},
          {"HloModule m, x= ",
           "line 1, column 17: expected the value of an attribute, not the end"},
          {"HloModule m, num_partitions=0",
           "line 1, column 29: expected a positive integer, not 0"},
          {"HloModule m, replica_count=x",
           "line 1, column 28: expected a positive integer, not \"x\""},
          {"HloModule m\n" + entry + "\n" + entry,
           "line 3, column 1: a second ENTRY; the first is e"},
          {"HloModule m, input_output_alias=3",
           "line 1, column 33: expected \"{\" before aliases, not \"3\""},
          {"HloModule m, input_output_alias={x}",
           "line 1, column 34: expected \"{\" before an index into a tuple, not \"x\""},
          {"HloModule m, input_output_alias={{0} (1, {})}",
           "line 1, column 38: expected \":\" after the path into the result, not \"(\""},
          {"HloModule m, input_output_alias={{0}: 1}",
           "line 1, column 39: expected \"(\" before a parameter and the path into it, not \"1\""},
          {"HloModule m, input_output_alias={{0}: (x)}",
           "line 1, column 40: expected the number of a parameter, not \"x\""},
          {"HloModule m, input_output_alias={{0}: (1)}",
           "line 1, column 41: expected \",\" after the number of a parameter, not \")\""},
          {"HloModule m, input_output_alias={{0}: (1, {}, maybe)}",
           "line 1, column 47: expected may-alias or must-alias, not \"maybe\""},
          {"HloModule m, input_output_alias={{0}: (1, {};}",
           "line 1, column 45: expected \")\" after an alias, not \";\""},
          {"HloModule m, input_output_alias={{0}: (1, {});",
           "line 1, column 46: expected \",\" or \"}\" after an alias, not \";\""},
          {"HloModule m, buffer_donor=0",
           "line 1, column 27: expected \"{\" before donors, not \"0\""},
          {"HloModule m, buffer_donor={(0, {}",
           "line 1, column 34: expected \")\" after a donor, not the end of the text"},
          {"HloModule m, buffer_donor={(0, {})",
           "line 1, column 35: expected \",\" or \"}\" after a donor, not the end of the text"},
          {"HloModule m, input_output_alias={{0}: (1, {})} " + entry,
           "the module's input_output_alias names parameter 1, but e has 1"},
          {"HloModule m, input_output_alias={{2}: (0, {})} " + entry,
           "the module's input_output_alias names {2} of the result, whose shape is (f32[], "
           "f32[])"},
          {"HloModule m, buffer_donor={(0, {0,0})} " + entry,
           "the module's buffer_donor names {0,0} of parameter 0, whose shape is (f32[], f32[])"},
          {"HloModule m\nFileNames\n1 \"a\"\n2 ,",
           "line 4, column 3: expected a string or {...}, not \",\""},
      },
      as_it_is);
}

TEST(HloErrors, Computations) {
  expect_messages(
      {
          {"HloModule m\n}", "line 2, column 1: expected the name of a computation, not \"}\""},
          {"HloModule m\nf [", "line 2, column 3: expected \"{\" of the computation f, not \"[\""},
          {"HloModule m\nf {}", "line 2, column 1: the computation f has no instructions"},
          {"HloModule m\nf { p = f32[] parameter(0)",
           "line 2, column 1: the computation f is not closed by \"}\""},
          {"HloModule m\nf (f32[]) {",
           "line 2, column 7: expected \":\" after the name of a parameter, not \"[\""},
          {"HloModule m\nf (3: f32[]) {",
           "line 2, column 4: expected the name of a parameter, not \"3\""},
          {"HloModule m\nf (a: f32[]; {",
           "line 2, column 12: expected \",\" or \")\" after a parameter, not \";\""},
          {"HloModule m\nf -> 3 {",
           "line 2, column 6: expected a shape such as f32[8,16] or (s32[], f32[8]), not \"3\""},
          {"HloModule m\nf { p = f32[] parameter(0) }\nENTRY f { p = f32[] parameter(0) }",
           "line 3: the computation f stands already on line 2"},
          {"HloModule m\nENTRY e { p = f32[] call(), to_apply=g }",
           "line 2 (%p): the module has no computation g"},
          {"HloModule m\nf { p = f32[] call(), to_apply=g }\ng { p = f32[] call(), to_apply=f }\n"
           "ENTRY e { p = f32[] parameter(0) }",
           "line 2: computations call each other in a cycle: f -> g -> f"},
          {"HloModule m\nENTRY e { p = f32[] call(), to_apply=e }",
           "line 2: computations call each other in a cycle: e -> e"},
          {"HloModule m\nENTRY e { p = f32[] parameter(0) }, 3",
           "line 2, column 37: expected the name of an attribute of a computation, not \"3\""},
          {"HloModule m\nENTRY e { p = f32[] parameter(0) }, a 3",
           "line 2, column 39: expected \"=\" after the attribute a, not \"3\""},
      },
      as_it_is);
  std::string deep = "HloModule m\nc0 { p = f32[] parameter(0) }\n";
  for (int i = 1; i < 300; ++i)
    deep += cat("c", i, " { p = f32[] call(), to_apply=c", i - 1, " }\n");
  EXPECT_EQ(refusal(deep + "ENTRY e { p = f32[] parameter(0) }"),
            "line 258: calls nest deeper than 256 below c256");
}

TEST(HloErrors, Instructions) {
  expect_messages(
      {
          {"3",
           "line 4, column 1: expected an instruction, name = shape opcode(operands), not \"3\""},
          {"p f32[]", "line 4, column 3: expected \"=\" after the name p, not \"f32\""},
          {"p = f32",
           "line 4, column 5: expected a shape such as f32[8,16] or (s32[], f32[8]), not \"f32\""},
          {"p = f32[] (", "line 4, column 11: expected an opcode, not \"(\""},
          {"p = f32[] add a", "line 4, column 15: expected \"(\" after the opcode add, not \"a\""},
          {"p = f32[] parameter(x)",
           "line 4, column 21: expected the number of a parameter, not \"x\""},
          {"p = f32[] parameter(-1)", "line 4, column 21: a parameter of negative number"},
          {"p = f32[] parameter(99999999999999999999)",
           "line 4, column 21: 99999999999999999999 does not fit 64 bits"},
          {"p = f32[] parameter(0;",
           "line 4, column 22: expected \")\" after the number of a parameter, not \";\""},
          {"p = f32[] foo(3)", "line 4, column 15: expected the name of an operand, not \"3\""},
          {"p = f32[] parameter(0) q = f32[] negate(p;",
           "line 4, column 42: expected \",\" or \")\" after an operand, not \";\""},
          {"p = f32[] negate(q)", "line 4, column 18: the operand q is no instruction of main"},
          {"p = f32[] negate(q)\nq = f32[] parameter(0)",
           "line 4, column 18: the operand q is used before line 5 defines it"},
          {"p = f32[] negate(p)",
           "line 4, column 18: the operand p is used before line 4 defines it"},
          {"p = f32[] parameter(0)\np = f32[] negate(p)",
           "line 5, column 1: the name p is given already on line 4"},
          {"p = f32[2] parameter(0)\nq = f32[] negate(f32[3] p)",
           "line 5, column 18: the operand p is written as f32[3], but is f32[2]"},
          {"ROOT p = f32[] parameter(0)\n  ROOT q = f32[] negate(p)",
           "line 5, column 3: a second ROOT in main; the first is on line 4 (%p)"},
          {"p = f32[] parameter(0), 3",
           "line 4, column 25: expected the name of an attribute, not \"3\""},
          {"p = f32[] parameter(0), a 3",
           "line 4, column 27: expected \"=\" after the attribute a, not \"3\""},
          {"p = f32[] parameter(0), a=3, a=3", "line 4, column 30: the attribute a stands twice"},
          {"p = f32[] parameter(0) /* and so on",
           "line 4, column 24: this comment is not closed by */"},
      },
      in_entry);
}

TEST(HloErrors, ParametersAndArities) {
  expect_messages(
      {
          {"p = f32[] parameter(1)",
           "line 4 (%p): parameter(1) of main, which has 1 parameter; they are numbered from 0 "
           "without holes"},
          {"p = f32[] parameter(0)\nq = f32[] parameter(9223372036854775807)",
           "line 5 (%q): parameter(9223372036854775807) of main, which has 2 parameters"},
          {"p = f32[] parameter(0)\nq = f32[] parameter(0)",
           "line 5 (%q): parameter(0) stands already on line 4 (%p)"},
          {"p = f32[] parameter(0)\nq = f32[] add(p)", "line 5 (%q): add takes 2 operands, not 1"},
          {"p = f32[] negate()", "line 4 (%p): negate takes 1 operand, not 0"},
          {"p = f32[] concatenate(), dimensions={0}",
           "line 4 (%p): concatenate takes at least 1 operand, not 0"},
          {"p = f32[] parameter(0)\nq = f32[] reduce(p, p, p)",
           "line 5 (%q): reduce takes an even number of operands, not 3"},
          {"p = f32[] parameter(0)\nq = f32[] scatter(p, p, p, p)",
           "line 5 (%q): scatter takes an odd number of operands, not 4"},
      },
      in_entry);
}

TEST(HloErrors, Brackets) {
  expect_messages(
      {
          {"HloModule m\nf { p = f32[2]{0", "line 2, column 15: \"{\" is not closed by \"}\""},
          {"HloModule m, x={(", "line 1, column 16: \"{\" is not closed by \"}\""},
          {"HloModule m, x={\"", "line 1, column 17: this string is not closed by \""},
          {"HloModule m, x=\"a", "line 1, column 16: this string is not closed by \""},
          {"HloModule m, x={(}",
           "line 1, column 18: expected \")\" to close the bracket opened before, not \"}\""},
      },
      as_it_is);
}

TEST(HloErrors, Shapes) {
  expect_messages(
      {
          {"p = f32[-1] x()", "line 4, column 9: a dim of extent -1"},
          {"p = f32[x] x()", "line 4, column 9: expected the extent of a dim, not \"x\""},
          {"p = f32[2;", "line 4, column 10: expected \",\" or \"]\" after an extent, not \";\""},
          {"p = f32[99999999999999999999]",
           "line 4, column 9: 99999999999999999999 does not fit 64 bits"},
          {"p = f32[4294967296,4294967296] x()",
           "line 4, column 5: a shape of more than 2^62 bytes"},
          {"p = f32[9223372036854775807,0,2] x()",
           "line 4, column 5: a shape of more than 2^62 bytes"},
          {"p = f32[" + repeated("1,", 64) + "1] x()",
           "line 4, column 137: a shape of more than 64 dims"},
          {"p = (f32[]; x()",
           "line 4, column 11: expected \",\" or \")\" after an element of a tuple's shape, not "
           "\";\""},
          {"p = " + repeated("(", 65), "line 4, column 69: tuples nest deeper than 64"},
          {"p = f32[2]{0:T(2} x()",
           "line 4, column 17: expected \")\" to close the bracket opened before, not \"}\""},
          {"p = f32[2]{0:" + repeated("(", 64), "line 4, column 77: brackets nest deeper than 64"},
      },
      in_entry);
}

// The literal starts in column 24 of line 4.
std::string constant(const std::string& shape, const std::string& text) {
  const std::string head = "p = " + shape;
  return entry_of(head + std::string(14 - head.size(), ' ') + "constant(" + text);
}

TEST(HloErrors, Literals) {
  struct LiteralCase {
    std::string shape, text, message;
  };
  for (const auto& [shape, text, message] : std::vector<LiteralCase>{
           {"f32[1000]", "{...})",
            "this constant was elided ({...}): print the module with its constants in full"},
           {"s4[1000]", "{ ... })", "this constant was elided ({...})"},
           {"f32[]", ")", "expected a number of type f32, not \")\""},
           {"f32[]", "one)", "expected a number of type f32, not \"one\""},
           {"f32[]", "1.5.2)", "expected a number of type f32, not \"1.5.2\""},
           {"f32[]", "infinity)", "expected a number of type f32, not \"infinity\""},
           {"f32[]", "1e39)", "1e39 lies outside of f32"},
           {"f64[]", "-1e400)", "-1e400 lies outside of f64"},
           {"f16[]", "65520)", "65520 lies outside of f16"},
           {"f8e4m3fn[]", "1000)", "1000 lies outside of f8e4m3fn"},
           {"f8e4m3fn[]", "inf)", "inf lies outside of f8e4m3fn"},
           {"f32[]", "nan(0x800000))", "the payload of this NaN is not one of f32"},
           {"f32[]", "nan(0))", "the payload of this NaN is not one of f32"},
           {"f32[]", "nan(0xz))", "the payload of this NaN is not one of f32"},
           {"f8e4m3fn[]", "nan(1))", "the payload of this NaN is not one of f8e4m3fn"},
           {"s8[]", "128)", "128 lies outside of s8, which holds -128 to 127"},
           {"u8[]", "-1)", "-1 lies outside of u8, which holds 0 to 255"},
           {"u64[]", "18446744073709551616)", "18446744073709551616 lies outside of u64"},
           {"s32[]", "1.5)", "expected an integer of type s32, not \"1.5\""},
           {"s32[]", "x)", "expected an integer of type s32, not \"x\""},
           {"pred[]", "yes)", "expected true or false, not \"yes\""},
           {"f32[2]", "1)", "expected \"{\" of dim 0 of a constant of extents [2], not \"1\""},
       }) {
    const std::string all = "line 4, column 24: " + message;
    EXPECT_EQ(refusal(constant(shape, text)).substr(0, all.size()), all) << shape << " " << text;
  }
  const auto says = [](const std::string& shape, const std::string& text,
                       const std::string& message) {
    EXPECT_EQ(refusal(constant(shape, text)), message) << shape << " " << text;
  };
  says("f32[2]", "{1})", "line 4, column 26: 1 items in dim 0 of a constant of extents [2]");
  says("f32[2]", "{1, 2, 3})",
       "line 4, column 29: more than 2 items in dim 0 of a constant of extents [2]");
  says("f32[2]", "{1 2})", "line 4, column 27: expected \",\" or \"}\" in a constant, not \"2\"");
  says("f32[2,1]", "{{1}, 2})",
       "line 4, column 30: expected \"{\" of dim 1 of a constant of extents [2,1], not \"2\"");
  says("f32[]", "nan(1;",
       "line 4, column 29: expected \")\" after the payload of a NaN, not \";\"");
  says("f32[]", "1;", "line 4, column 25: expected \")\" after a constant, not \";\"");
  says("f32[0]", "{1})",
       "line 4, column 24: elements in a constant of type f32[0], which has none");
  says("f32[0]", "1)",
       "line 4, column 24: expected \"{\" of a constant without elements, not \"1\"");
  says("c64[]", "(1)",
       "line 4, column 26: expected \",\" between the real and the imaginary part, not \")\"");
  says("c64[]", "(1, 2;", "line 4, column 29: expected \")\" after the imaginary part, not \";\"");
  says("(f32[])", "1)", "line 4, column 24: expected \"(\" of a tuple's constant, not \"1\"");
  says("(s8[])", "(1, 2))",
       "line 4, column 26: expected \")\" after the 1 elements of a tuple's constant, not \",\"");
  says("s4[]", ")", "line 4, column 24: expected the value of a constant, not \")\"");
  says("s4[]", "1]", "line 4, column 25: expected \")\" after a constant, not \"]\"");
  EXPECT_EQ(
      refusal(entry_of("p = (s8[], s8[]) constant((1))")),
      "line 4, column 29: expected \",\" between the elements of a tuple's constant, not \")\"");
  EXPECT_NE(refusal(constant("(f32[9])", "({...}))")).find("elided"), std::string::npos);
}

TEST(HloErrors, Attributes) {
  expect_messages(
      {
          {"is_stable=yes", "line 4, column 28: expected true or false, not \"yes\""},
          {"index=x", "line 4, column 24: expected an integer, not \"x\""},
          {"index=9223372036854775808",
           "line 4, column 24: 9223372036854775808 does not fit 64 bits"},
          {"epsilon=x", "line 4, column 26: expected a number, not \"x\""},
          {"epsilon=1e999", "line 4, column 26: 1e999 does not fit a double"},
          {"custom_call_target=x", "line 4, column 37: expected a string in quotes, not \"x\""},
          {"custom_call_target=\"x", "line 4, column 37: this string is not closed by \""},
          {"custom_call_target=\"a\\qb\"",
           "line 4, column 39: unknown escape in a string; known are"},
          {"custom_call_target=\"\\777\"", "line 4, column 38: unknown escape"},
          {"backend_config=3",
           "line 4, column 33: expected a string in quotes or {...}, not \"3\""},
          {"backend_config={\"a", "line 4, column 34: this string is not closed by \""},
          {"to_apply=3", "line 4, column 27: expected a name, not \"3\""},
          {"operand_precision=x",
           "line 4, column 36: expected \"{\" before a list of names, not \"x\""},
          {"operand_precision={3}", "line 4, column 37: expected a name, not \"3\""},
          {"operand_precision={a;",
           "line 4, column 38: expected \",\" or \"}\" after a name, not \";\""},
          {"dimensions=0", "line 4, column 29: expected \"{\" before an integer, not \"0\""},
          {"dimensions={0,}", "line 4, column 32: expected an integer, not \"}\""},
          {"dimensions={0 1}",
           "line 4, column 32: expected \",\" or \"}\" after an integer, not \"1\""},
          {"source_target_pairs=0",
           "line 4, column 38: expected \"{\" before lists of integers, not \"0\""},
          {"source_target_pairs={{0,1};",
           "line 4, column 44: expected \",\" or \"}\" after a list of integers, not \";\""},
          {"window=3x3", "line 4, column 25: expected \"{\" before a window, not \"3x3\""},
          {"window={siz=3}",
           "line 4, column 26: expected size, stride, pad, lhs_dilate, rhs_dilate or rhs_reversal "
           "in a "
           "window, not \"siz\""},
          {"window={size 3}",
           "line 4, column 31: expected \"=\" after size in a window, not \"3\""},
          {"window={size=3 size=3}", "line 4, column 33: size stands twice in a window"},
          {"window={size=3x}",
           "line 4, column 31: expected numbers such as 3x3 or 1_1x0_2, not \"3x\""},
          {"window={size=3y}",
           "line 4, column 31: expected numbers such as 3x3 or 1_1x0_2, not \"3y\""},
          {"window={size=3_3}", "line 4, column 31: 2 numbers for dim 0, expected 1"},
          {"window={size=99999999999999999999}",
           "line 4, column 31: a number that does not fit 64 bits"},
          {"window={size=3 pad=1}", "line 4, column 37: 1 numbers for dim 0, expected 2"},
          {"window={size=3 stride=1x1}",
           "line 4, column 25: a window of 1 sizes, but 2 entries in another of its lists"},
          {"dim_labels=b01f",
           "line 4, column 29: expected dim labels such as b01f_01io->b01f, not \"b01f\""},
          {"dim_labels=b01x_01io->b01f",
           "line 4, column 29: expected dim labels such as b01f_01io->b01f"},
          {"padding=1_1_1_1", "line 4, column 26: 4 numbers for dim 0, expected 2 or 3"},
          {"padding=1_1x2", "line 4, column 26: 1 numbers for dim 1, expected 2 or 3"},
          {"slice=0", "line 4, column 24: expected \"{\" before the ranges of a slice, not \"0\""},
          {"slice={0:8}",
           "line 4, column 25: expected \"[\" of a range [start:limit:stride], not \"0\""},
          {"slice={[x:8]}", "line 4, column 26: expected the start of a range, not \"x\""},
          {"slice={[0,8]}",
           "line 4, column 27: expected \":\" after the start of a range, not \",\""},
          {"slice={[0:]}", "line 4, column 28: expected the limit of a range, not \"]\""},
          {"slice={[0:8:]}", "line 4, column 30: expected the stride of a range, not \"]\""},
          {"slice={[0:8;", "line 4, column 29: expected \"]\" after a range, not \";\""},
          {"slice={[0:8];", "line 4, column 30: expected \",\" or \"}\" after a range, not \";\""},
          {"sharding=replicated",
           "line 4, column 27: expected a sharding such as {devices=[2,1]<=[2]}, not "
           "\"replicated\""},
          {"sharding={devices=[2,x]<=[2]}", "line 4, column 27: "},
          {"replica_groups=,",
           "line 4, column 33: expected replica groups such as {{0,1}} or [1,2]<=[2], not \",\""},
          {"replica_groups=[2,x]<=[2]", "line 4, column 33: "},
          {"metadata=3", "line 4, column 27: expected \"{\" before a list of key=value, not \"3\""},
          {"metadata={,}", "line 4, column 28: expected key=value or \"}\", not \",\""},
          {"metadata={a 3}", "line 4, column 30: expected \"=\" after a key, not \"3\""},
          {"metadata={a=}", "line 4, column 30: expected a value, not \"}\""},
          {"unknown=,", "line 4, column 26: expected the value of an attribute, not \",\""},
      },
      as_attribute);
}

}  // namespace
}  // namespace tessera::hlo
