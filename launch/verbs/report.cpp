#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>

#include "core/base/error.h"
#include "launch/verbs/verbs.h"

namespace tessera {

namespace {

int report_descriptor = 1;  // standard output as it was when the program started

void flush_standard_output() {
  std::cout.flush();
  std::fflush(stdout);
}

}  // namespace

StandardOutputForReport::StandardOutputForReport(const std::string& json) {
  if (json != "-") return;
  flush_standard_output();
  report_descriptor = ::dup(1);
  ::dup2(2, 1);
}

StandardOutputForReport::~StandardOutputForReport() {
  if (report_descriptor == 1) return;
  flush_standard_output();
  ::dup2(report_descriptor, 1);
  ::close(report_descriptor);
  report_descriptor = 1;
}

void write_report(const std::string& file, const std::string& text) {
  if (file == "-") {
    flush_standard_output();
    const std::string line = text + "\n";
    for (size_t done = 0; done < line.size();) {
      const ssize_t count = ::write(report_descriptor, line.data() + done, line.size() - done);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw_user_error("the report cannot be written to standard output: ", std::strerror(errno));
      done += static_cast<size_t>(count);
    }
    return;
  }
  std::ofstream out(file);
  out << text << "\n";
  out.flush();
  if (!out) throw_user_error("the report ", file, " cannot be written: ", std::strerror(errno));
}

}  // namespace tessera
