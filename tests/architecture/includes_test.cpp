// Holds the sources to the arrows between the rooms (docs/architecture.md): which folder may include
// which, and which heavy headers stay behind thin ones. Reads #include lines only.

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>

#include <gtest/gtest.h>

#include "core/base/strings.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

// The files of `folder` may include repository headers from the folders in `may_know`. The longest
// matching folder counts, so core/base is judged by its own line and core/compile by core's.
// A closed folder is known to nobody but itself, so its own headers may be heavy.
struct Room {
  std::string folder;
  std::vector<std::string> may_know;
  bool closed = false;
};

const std::vector<Room> kRooms = {
    {"core/base", {"core/base"}},
    {"core/types", {"core/base", "core/types"}},
    {"core/mesh", {"core/base", "core/types", "core/mesh"}},
    {"core/ir", {"core/base", "core/types", "core/mesh", "core/ir"}},
    {"core/ops", {"core/base", "core/types", "core/mesh", "core/ir", "core/ops"}},
    {"core", {"core"}},
    {"partitioner", {"core", "partitioner"}},
    {"kernels", {"core", "kernels"}},
    {"kernels/cuda", {"core", "kernels/common", "kernels/cuda"}, /*closed=*/true},
    {"kernels/cuda/plugin", {"core", "kernels/cuda/plugin"}},
    {"kernels/comm/mpi", {"core", "kernels"}, /*closed=*/true},
    {"models", {"core", "models"}},
    {"launch", {"core", "partitioner", "kernels", "models", "launch", "proto"}},
};

// A library whose headers are slow to read or must stay replaceable: only .cpp files beneath the
// folders in `only_in` include it.
struct HeavyHeader {
  std::string prefix;
  std::vector<std::string> only_in;
};

const std::vector<HeavyHeader> kHeavyHeaders = {
    {"spdlog/", {"core/base"}},
    {"fmt/", {"core/base"}},
    {"google/protobuf", {"launch"}},
    {"proto/", {"launch"}},  // generated: proto/*.pb.h
    {"CLI/", {"launch"}},
    {"nlohmann/", {"launch"}},
    {"isa-l", {"launch"}},
    {"pcre2", {"launch"}},
    {"mpi.h", {"kernels/comm/mpi"}},
    {"mpi-ext.h", {"kernels/comm/mpi"}},
    {"dnnl", {"kernels"}},
    {"oneapi/", {"kernels"}},
    {"cblas", {"kernels"}},
    {"omp.h", {"kernels"}},
    {"cuda", {"kernels/cuda"}},
    {"cublas", {"kernels/cuda"}},
    {"nvrtc", {"kernels/cuda"}},
    {"nccl", {"kernels/cuda"}},
    {"nvtx3/", {"kernels/cuda"}},
};

bool is_below(const std::string& path, const std::string& folder) {
  return path.size() > folder.size() && path.compare(0, folder.size(), folder) == 0 &&
         path[folder.size()] == '/';
}

bool is_below_any(const std::string& path, const std::vector<std::string>& folders) {
  return std::any_of(folders.begin(), folders.end(),
                     [&](const std::string& folder) { return is_below(path, folder); });
}

const Room* room_of(const std::string& path) {
  const Room* best = nullptr;
  for (const Room& room : kRooms)
    if (is_below(path, room.folder) && (!best || room.folder.size() > best->folder.size()))
      best = &room;
  return best;
}

bool is_repository_header(const std::string& header) {
  for (const char* folder : {"core", "partitioner", "kernels", "models", "launch", "proto", "tests"})
    if (is_below(header, folder)) return true;
  return false;
}

// The header named by an #include line, in quotes or angle brackets; nullopt for other lines.
std::optional<std::string> included_header(std::string_view line) {
  line = trim(line);
  if (line.empty() || line[0] != '#') return std::nullopt;
  line = trim(line.substr(1));
  if (line.substr(0, 7) != "include") return std::nullopt;
  const size_t open = line.find_first_of("\"<");
  if (open == std::string_view::npos) return std::nullopt;
  const size_t close = line.find_first_of("\">", open + 1);
  if (close == std::string_view::npos) return std::nullopt;
  return std::string(line.substr(open + 1, close - open - 1));
}

// Why `path` may not include `header`; "" where it may.
std::string objection(const std::string& path, const std::string& header) {
  const Room* room = room_of(path);
  for (const HeavyHeader& heavy : kHeavyHeaders) {
    if (header.compare(0, heavy.prefix.size(), heavy.prefix) != 0) continue;
    if (fs::path(path).extension() == ".h" && !(room && room->closed))
      return "a heavy header, which only .cpp files include";
    if (!is_below_any(path, heavy.only_in))
      return cat("belongs to ", join(heavy.only_in), " alone");
  }
  if (!is_repository_header(header)) return "";
  const Room* other = room_of(header);
  if (other && other->closed && other != room) return cat(other->folder, " is closed to other folders");
  if (!room || is_below_any(header, room->may_know)) return "";
  return cat(room->folder, " may know only ", join(room->may_know));
}

// One line for each include below `root` that the table forbids.
std::vector<std::string> forbidden_includes(const fs::path& root, int* files_read = nullptr) {
  std::vector<std::string> problems;
  for (const char* top : {"core", "partitioner", "kernels", "models", "launch"}) {
    if (!fs::exists(root / top)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root / top)) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".h" && extension != ".cpp" && extension != ".cu" && extension != ".cuh")
        continue;
      const std::string path = fs::relative(entry.path(), root).generic_string();
      std::ifstream file(entry.path());
      if (files_read) ++*files_read;
      int number = 0;
      for (std::string line; std::getline(file, line);) {
        ++number;
        const auto header = included_header(line);
        if (!header) continue;
        const std::string reason = objection(path, *header);
        if (!reason.empty()) problems.push_back(cat(path, ":", number, ": ", *header, ": ", reason));
      }
    }
  }
  return problems;
}

TEST(Architecture, every_include_follows_an_allowed_arrow) {
  int files_read = 0;
  const auto problems = forbidden_includes(TESSERA_SOURCE_DIR, &files_read);
  EXPECT_GT(files_read, 10);
  EXPECT_TRUE(problems.empty()) << join(problems, "\n");
}

// A small tree with one file, in a folder of its own that is removed at the end.
class PlantedInclude {
 public:
  PlantedInclude(const std::string& path, const std::string& line) {
    const fs::path file = root_ / path;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << "// A comment.\n" << line << "\n";
  }
  ~PlantedInclude() { fs::remove_all(root_); }
  std::vector<std::string> problems() const { return forbidden_includes(root_); }

 private:
  fs::path root_ = fs::temp_directory_path() / cat("tessera_architecture_", ::getpid());
};

TEST(Architecture, a_planted_bad_include_is_found) {
  const std::pair<const char*, const char*> bad[] = {
      {"core/base/error.h", "#include \"core/types/shape.h\""},
      {"core/types/shape.cpp", "#include \"core/ir/graph.h\""},
      {"core/mesh/mesh.h", "#include \"core/ir/graph.h\""},
      {"core/ir/graph.cpp", "#include \"core/ops/dot.h\""},
      {"core/compile/plan.cpp", "  #  include \"partitioner/spmd.h\""},
      {"core/runtime/executor.cpp", "#include <mpi.h>"},
      {"core/runtime/executor.cpp", "#include <cuda_runtime.h>"},
      {"core/ir/parser.cpp", "#include <google/protobuf/message.h>"},
      {"partitioner/plan.cpp", "#include \"kernels/cpu/matmul.h\""},
      {"partitioner/plan.cpp", "#include \"launch/trainer.h\""},
      {"kernels/cpu/matmul.cpp", "#include \"partitioner/plan.h\""},
      {"kernels/cpu/matmul.cpp", "#include \"models/gpt.h\""},
      {"kernels/cpu/matmul.h", "#include <oneapi/dnnl/dnnl.hpp>"},
      {"kernels/cpu/matmul.cpp", "#include <mpi.h>"},
      {"kernels/comm/world.cpp", "#include \"kernels/comm/mpi/topology.h\""},
      {"launch/trainer.cpp", "#include \"kernels/comm/mpi/topology.h\""},
      {"models/gpt.cpp", "#include \"partitioner/plan.h\""},
      {"models/gpt.cpp", "#include \"proto/model.pb.h\""},
      {"launch/config/load.h", "#include \"proto/job.pb.h\""},
      {"launch/main.cpp", "#include <spdlog/spdlog.h>"},
      {"launch/cli.h", "#include <CLI/CLI.hpp>"},
  };
  for (const auto& [path, line] : bad) {
    const auto problems = PlantedInclude(path, line).problems();
    ASSERT_EQ(problems.size(), 1u) << path << " with " << line;
    EXPECT_EQ(problems[0].rfind(cat(path, ":2: "), 0), 0u) << problems[0];
  }
}

TEST(Architecture, allowed_includes_pass) {
  const std::pair<const char*, const char*> good[] = {
      {"core/base/log.cpp", "#include <spdlog/spdlog.h>"},
      {"core/compile/plan.cpp", "#include \"core/ops/dot.h\""},
      {"kernels/comm/mpi/world.cpp", "#include <mpi.h>"},
      {"kernels/comm/mpi/topology.h", "#include <mpi.h>"},
      {"kernels/comm/mpi/world.cpp", "#include \"kernels/comm/mpi/topology.h\""},
      {"kernels/cpu/matmul.cpp", "#include <oneapi/dnnl/dnnl.hpp>"},
      {"launch/config/load.cpp", "#include \"proto/job.pb.h\""},
      {"launch/trainer.cpp", "#include \"partitioner/plan.h\""},
      {"models/gpt.h", "#include <vector>"},
      {"models/gpt.h", "// #include \"partitioner/plan.h\""},
  };
  for (const auto& [path, line] : good) {
    const auto problems = PlantedInclude(path, line).problems();
    EXPECT_TRUE(problems.empty()) << join(problems);
  }
}

}  // namespace
}  // namespace tessera
