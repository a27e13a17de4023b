// Columns of text for a terminal.
#pragma once

#include <string>
#include <vector>

namespace tessera {

// Rows of cells under a header; a column of numbers is set to the right (`right[c]`).
class TextTable {
 public:
  explicit TextTable(std::vector<std::string> header, std::vector<bool> right = {});

  void add(std::vector<std::string> row);
  // A line of free text between the rows.
  void add_note(std::string text);
  bool empty() const { return rows_.size() <= 1; }
  // Two spaces before and between the columns; no spaces at line ends.
  std::string print() const;

 private:
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;  // the header first
  std::vector<std::vector<std::string>> notes_;  // after each row
};

// 0.00123 -> "1.23 ms".
std::string human_seconds(double seconds);
// 4194304 -> "4,194,304".
std::string grouped_digits(int64_t number);
// "block.12.mlp.up.weight" -> "block.*.mlp.up.weight"; "%123" -> "%*".
std::string without_numbers(const std::string& text);

}  // namespace tessera
