// Names what the executor submits for a profiler that watches the process. Private to
// core/runtime/executor*.cpp.
#pragma once

#include <string>

#include "core/runtime/executor.h"

namespace tessera {

// A range of the backend for as long as it lives; nothing where the backend has none.
class Executor::NamedRange {
 public:
  NamedRange(const Executor& executor, const std::string& name) : NamedRange(executor, name.c_str()) {}
  // Around step number `step`.
  NamedRange(const Executor& executor, size_t step)
      : NamedRange(executor, executor.range_names_.empty() ? "" : executor.range_names_[step].c_str()) {}
  NamedRange(const NamedRange&) = delete;
  ~NamedRange() {
    if (backend_) backend_->end_range();
  }

 private:
  NamedRange(const Executor& executor, const char* name)
      : backend_(executor.range_names_.empty() ? nullptr : &executor.backend_) {
    if (backend_) backend_->begin_range(name);
  }

  Backend* const backend_;
};

}  // namespace tessera
