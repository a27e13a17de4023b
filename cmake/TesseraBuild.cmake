# Compiler settings shared by every folder, and `tessera_library`, which makes a folder a library.
include(GNUInstallDirs)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
set(THREADS_PREFER_PTHREAD_FLAG ON)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release or RelWithDebInfo" FORCE)
endif()
# -O2 halves the build time of -O3 at the same speed: what is hot lives in kernels, which ask for -O3.
if(CMAKE_CXX_FLAGS_RELEASE STREQUAL "-O3 -DNDEBUG")
  set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG" CACHE STRING "Flags of Release builds" FORCE)
endif()

if(TESSERA_FUZZERS)
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -g1)
  add_link_options(-fsanitize=address,undefined)
elseif(TESSERA_SANITIZE)
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${TESSERA_SANITIZE}>" -fno-omit-frame-pointer -g1 -O1)
  add_link_options(-fsanitize=${TESSERA_SANITIZE})
endif()

# ccache takes precompiled headers only when told that they may hold dates and defines.
find_program(TESSERA_CCACHE ccache)
if(TESSERA_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} ${TESSERA_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()

# Eight sources a compiler run take a third off a whole build, which goes into what they share. For work on a few
# files, and for tools that read compile_commands.json, -DCMAKE_UNITY_BUILD=OFF compiles each by itself.
if(NOT DEFINED CMAKE_UNITY_BUILD)
  set(CMAKE_UNITY_BUILD ON)
endif()

# tessera_ops_alone(files...): ops and their kernels among these sources of this folder, which all call their functions
# infer, eval, accept, run, are compiled one by one.
function(tessera_ops_alone)
  set(ops ${ARGN})
  list(FILTER ops INCLUDE REGEX "/(core/ops/|kernels/.*/op_)[a-z0-9_]*\\.cpp$")
  set_source_files_properties(${ops} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
endfunction()

# tessera_library(NAME SOURCES files... [PUBLIC libs...] [PRIVATE libs...])
#
# Makes the static library tessera_NAME, also known as Tessera::NAME, which finds its headers from
# the repository root.
function(tessera_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  if(NOT arg_SOURCES)
    set(placeholder ${PROJECT_BINARY_DIR}/generated/empty_${name}.cpp)
    file(CONFIGURE OUTPUT ${placeholder} CONTENT "// This folder has no sources yet.\n")
    set(arg_SOURCES ${placeholder})
  endif()
  set(target tessera_${name})
  add_library(${target} STATIC ${arg_SOURCES})
  add_library(Tessera::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  target_compile_features(${target} PUBLIC cxx_std_20)
  # Designated initialisers leave fields to their defaults on purpose.
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wno-missing-field-initializers)
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/tessera>)
  target_link_libraries(${target} PUBLIC ${arg_PUBLIC} PRIVATE ${arg_PRIVATE})
  # A fifth of what most files cost. Only what never changes, so that a file still names what it uses of the project.
  if(TESSERA_PRECOMPILED_HEADERS)
    target_precompile_headers(${target} PRIVATE <algorithm> <array> <cmath> <cstdint> <functional> <map> <memory>
      <numeric> <optional> <set> <span> <sstream> <string> <string_view> <unordered_map> <utility> <variant> <vector>)
  endif()
  install(TARGETS ${target} EXPORT TesseraTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
endfunction()

# tessera_opens_plugins(PROGRAM): a program that opens libtessera_cuda.so exports all of core to it, what
# it does not use itself included.
function(tessera_opens_plugins target)
  set_target_properties(${target} PROPERTIES ENABLE_EXPORTS ON)
  target_link_options(${target} PRIVATE
    "LINKER:--whole-archive,$<TARGET_FILE:tessera_core>,--no-whole-archive")
  add_dependencies(${target} tessera_core)
endfunction()
