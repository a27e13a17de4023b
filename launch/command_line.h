// The command line of `tessera`: verbs, options, help. Parses into plain structs and calls the verb.
#pragma once

namespace tessera {

// Exit codes, also in docs/command-line.md: 0 done, 1 failed, 2 wrong use or configuration,
// 75 saved on request and to be requeued, 124 watchdog.
inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitRequeue = 75;

// Runs the program; returns its exit code and prints errors to standard error.
int run_command_line(int argc, char** argv);

}  // namespace tessera
