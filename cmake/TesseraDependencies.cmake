# What Tessera links. Included by its own build and, installed, by find_package(Tessera), so that
# both see the same targets. Everything is found through CMAKE_PREFIX_PATH as usual; on Debian and
# Ubuntu launch/setup installs what is missing.
find_package(Threads REQUIRED)
find_package(spdlog REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(MPI QUIET COMPONENTS C)
find_package(Protobuf CONFIG QUIET)
if(NOT TARGET protobuf::libprotobuf)
  find_package(Protobuf REQUIRED)
endif()

# Libraries without (usable) CMake files of their own: one imported target each.
function(tessera_find_plain target header library package)
  if(TARGET ${target})
    return()
  endif()
  string(MAKE_C_IDENTIFIER "${target}" id)
  find_path(${id}_INCLUDE_DIR ${header})
  find_library(${id}_LIBRARY ${library})
  mark_as_advanced(${id}_INCLUDE_DIR ${id}_LIBRARY)
  if(NOT ${id}_INCLUDE_DIR OR NOT ${id}_LIBRARY)
    message(FATAL_ERROR "${header} or lib${library} was not found. Install ${package} "
                        "(launch/setup does) or name its prefix in CMAKE_PREFIX_PATH.")
  endif()
  add_library(${target} UNKNOWN IMPORTED)
  set_target_properties(${target} PROPERTIES
    IMPORTED_LOCATION ${${id}_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${${id}_INCLUDE_DIR})
endfunction()

# oneDNN's own CMake file demands OpenCL where its package was built with it; its CPU part needs none.
tessera_find_plain(Tessera::dnnl oneapi/dnnl/dnnl.hpp dnnl libdnnl-dev)
tessera_find_plain(Tessera::isal isa-l.h isal libisal-dev)
tessera_find_plain(Tessera::pcre2 pcre2.h pcre2-8 libpcre2-dev)
