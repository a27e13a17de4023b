// Which Tessera this is: for --version, checkpoints and benchmark records.
#pragma once

#include <string>
#include <string_view>

namespace tessera {

std::string_view version();        // "0.1.0"
std::string_view source_commit();  // 12 hex digits, with "-dirty" when edited; "unknown" without git
std::string_view compiler();       // "gcc 12.2.0"
std::string log_library_version();  // of spdlog, which stands behind core/base/log.cpp: "1.10.0"

}  // namespace tessera
