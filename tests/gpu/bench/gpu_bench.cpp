// Every kernel family of the CUDA plugin at the shapes of models' layers, beside what the machine gives at most.
//
//     bench_gpu [--filter TEXT] [--json FILE] [--tsv] [--replays N] [--device N] [--smoke] [--info]
//
// First it measures the machine: the rate of a large copy, and of a large product in bf16. A kernel's floor is the
// longer of its bytes at the one and its operations at the other; printed is the share of its time that this makes.
// Each time is the median of cold runs (measure.h); products take the fastest algorithm of those that are proposed.
// --smoke takes tiny sizes, for the software GPU: only that all of it runs. --info names the device and the
// libraries, and ends.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "core/base/version.h"
#include "kernels/cuda/plugin/open.h"
#include "tests/gpu/bench/measure.h"

namespace tessera::bench {
namespace {

struct Options {
  std::string filter, json;
  bool tsv = false, smoke = false, info = false;
  int replays = 0, device = 0;
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&] {
      if (i + 1 == argc) throw_config_error("bench_gpu: ", word, " needs a value");
      return std::string(argv[++i]);
    };
    if (word == "--filter") options.filter = value();
    else if (word == "--json") options.json = value();
    else if (word == "--replays") options.replays = std::atoi(value().c_str());
    else if (word == "--device") options.device = std::atoi(value().c_str());
    else if (word == "--tsv") options.tsv = true;
    else if (word == "--smoke") options.smoke = true;
    else if (word == "--info") options.info = true;
    else
      throw_config_error("bench_gpu: unknown argument '", word,
                         "' (known: --filter, --json, --tsv, --replays, --device, --smoke, --info)");
  }
  return options;
}

struct Machine {
  std::string device;
  std::vector<std::string> versions;
  double copy_rate = 0, product_rate = 0;  // bytes and floating-point operations per second
};

struct Row {
  Case one;
  Measured measured;
  double floor = 0;  // seconds

  double share() const { return floor / measured.time.median; }
  double rate(double work) const { return work / measured.time.median; }
};

std::string formatted(const char* format, double value) {
  char text[40];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

void print_head(const Machine& machine) {
  std::printf("Tessera %s, commit %s\n", std::string(version()).c_str(), std::string(source_commit()).c_str());
  for (const std::string& line : machine.versions) std::printf("%s\n", line.c_str());
  std::printf("%s\ncopy %.0f GB/s, product in bf16 %.1f TFLOP/s\n\n", machine.device.c_str(), machine.copy_rate * 1e-9,
              machine.product_rate * 1e-12);
  std::printf("%-23s %-11s %-26s %10s %8s %8s %8s %8s %6s\n", "family", "layer of", "kernel", "us", "GB/s", "of copy",
              "TFLOP/s", "of peak", "floor");
}

void print_row(const Machine& machine, const Row& row) {
  const Case& one = row.one;
  if (!row.measured.skipped.empty()) {
    std::printf("%-23s %-11s skipped: %s\n", one.family.c_str(), one.model.c_str(), row.measured.skipped.c_str());
    return;
  }
  const double bytes = row.rate(static_cast<double>(one.bytes())), flops = row.rate(one.flops());
  std::printf("%-23s %-11s %-26s %10.1f %8.0f %7.0f%% %8.1f %7.0f%% %5.0f%%\n", one.family.c_str(), one.model.c_str(),
              row.measured.kernel.c_str(), row.measured.time.median * 1e6, bytes * 1e-9,
              100 * bytes / machine.copy_rate, flops * 1e-12, 100 * flops / machine.product_rate, 100 * row.share());
  std::fflush(stdout);
}

// Name, value, share of the floor, kernel.
void print_tsv(const Row& row) {
  const auto& [one, measured, floor] = row;
  if (measured.skipped.empty())
    std::printf("%s, %s\t%s us\t%s\t%s\n", one.family.c_str(), one.model.c_str(),
                formatted("%.1f", measured.time.median * 1e6).c_str(),
                formatted("%.0f%% of floor", 100 * row.share()).c_str(), measured.kernel.c_str());
  else
    std::printf("%s, %s\tskipped\t\t%s\n", one.family.c_str(), one.model.c_str(), measured.skipped.c_str());
  std::fflush(stdout);
}

std::string quoted(const std::string& text) {
  std::string all = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') all += '\\';
    all += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return all + "\"";
}

void write_json(const std::string& path, const Machine& machine, const std::vector<Row>& rows) {
  std::ofstream file(path);
  if (!file) throw_user_error("cannot write ", path);
  file << "{\"device\": " << quoted(machine.device) << ", \"commit\": " << quoted(std::string(source_commit()))
       << ",\n \"versions\": [";
  for (size_t i = 0; i < machine.versions.size(); ++i) file << (i ? ", " : "") << quoted(machine.versions[i]);
  file << "],\n \"copy_bytes_per_second\": " << machine.copy_rate
       << ", \"bf16_product_flops_per_second\": " << machine.product_rate << ",\n \"kernels\": [";
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto& [one, measured, floor] = rows[i];
    file << (i ? ",\n  {" : "\n  {") << "\"family\": " << quoted(one.family) << ", \"layer_of\": " << quoted(one.model)
         << ", \"kernel\": " << quoted(measured.kernel);
    if (measured.skipped.empty())
      file << ", \"seconds\": " << measured.time.median << ", \"seconds_best\": " << measured.time.best
           << ", \"bytes\": " << one.bytes() << ", \"flops\": " << one.flops() << ", \"floor_seconds\": " << floor
           << ", \"share_of_floor\": " << rows[i].share();
    else
      file << ", \"skipped\": " << quoted(measured.skipped);
    file << ", \"operands\": " << quoted(join(one.operands)) << "}";
  }
  file << "\n]}\n";
}

Machine measure_machine(Measurer& measurer, bool smoke) {
  Machine machine;
  machine.copy_rate = measurer.copy_rate(int64_t{smoke ? 1 : 16384} << 16);
  const Case peak = peak_product(smoke);
  const Measured product = measurer.run(peak);
  if (!product.skipped.empty()) throw_user_error("the product that the peak is measured by: ", product.skipped);
  machine.product_rate = peak.flops() / product.time.median;
  return machine;
}

int run(const Options& options) {
  const cuda::Plugin* plugin = nullptr;
  std::vector<cuda::DeviceInfo> devices;
  std::string why = "none is visible";
  try {
    plugin = &cuda::open_plugin();
    devices = plugin->devices();
  } catch (const UserError& error) {
    why = error.what();
  }
  if (devices.empty()) {
    std::printf("skipped: no CUDA device (%s)\n", why.c_str());
    return 0;
  }
  if (options.device < 0 || options.device >= static_cast<int>(devices.size()))
    throw_config_error("bench_gpu: --device ", options.device, ", and there are ", devices.size());
  const cuda::DeviceInfo& device = devices[static_cast<size_t>(options.device)];
  const std::string name = cat(device.name, ", compute ", device.major, ".", device.minor, ", ", device.multiprocessors,
                               " multiprocessors, ", device.memory_bytes >> 20, " MiB");
  if (options.info) {
    std::cout << "Tessera " << version() << ", commit " << source_commit() << "\n";
    for (const std::string& line : plugin->versions()) std::cout << line << "\n";
    std::cout << "GPU " << device.index << ": " << name << "\n";
    return 0;
  }

  const std::unique_ptr<Backend> backend =
      plugin->create_backend({.device = options.device, .autotune = !options.smoke});
  MeasureOptions measure;
  if (options.smoke) measure = {2, 3, 4096};
  if (options.replays > 0) measure.replays = options.replays;
  Measurer measurer(*backend, measure);
  Machine machine = measure_machine(measurer, options.smoke);
  machine.device = name;
  machine.versions = plugin->versions();
  if (options.tsv)
    std::printf("copy\t%.0f GB/s\t\t\nproduct in bf16\t%.1f TFLOP/s\t\t\n", machine.copy_rate * 1e-9,
                machine.product_rate * 1e-12);
  else
    print_head(machine);

  std::vector<Row> rows;
  for (const LayerShape& shape : layer_shapes(options.smoke))
    for (const Case& one : cases_of(shape)) {
      if (cat(one.family, ", ", one.model).find(options.filter) == std::string::npos) continue;
      const double floor = std::max(static_cast<double>(one.bytes()) / machine.copy_rate,
                                    one.flops() / machine.product_rate);
      rows.push_back({one, measurer.run(one), floor});
      options.tsv ? print_tsv(rows.back()) : print_row(machine, rows.back());
    }
  if (!options.json.empty()) write_json(options.json, machine, rows);
  const auto has_run = [](const Row& row) { return row.measured.skipped.empty(); };
  return options.smoke && !std::all_of(rows.begin(), rows.end(), has_run) ? 1 : 0;
}

}  // namespace
}  // namespace tessera::bench

int main(int argc, char** argv) {
  try {
    return tessera::bench::run(tessera::bench::parse(argc, argv));
  } catch (const tessera::ConfigError& error) {
    std::cerr << error.what() << "\n";
    return 2;
  } catch (const std::exception& error) {
    std::cerr << "bench_gpu: " << error.what() << "\n";
    return 1;
  }
}
