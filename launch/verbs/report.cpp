#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>

#include "core/base/error.h"
#include "launch/verbs/verbs.h"

namespace tessera {

void write_report(const std::string& file, const std::string& text) {
  if (file == "-") {
    std::cout << text << std::endl;
    return;
  }
  std::ofstream out(file);
  out << text << "\n";
  out.flush();
  if (!out) throw_user_error("the report ", file, " cannot be written: ", std::strerror(errno));
}

}  // namespace tessera
