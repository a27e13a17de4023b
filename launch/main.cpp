#include "launch/command_line.h"
#include "launch/wait_policy.h"

int main(int argc, char** argv) {
  tessera::bound_spinning(argv);
  return tessera::run_command_line(argc, argv);
}
