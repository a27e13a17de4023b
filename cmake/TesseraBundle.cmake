# Makes the bundle: a folder and a tarball that run on another x86-64 Linux (glibc 2.36 or later, for the GPU
# an NVIDIA driver and the CUDA 13 libraries) without anything being installed there.
#
#   cmake -DBUILD=build -DSOURCE=. -P cmake/TesseraBundle.cmake      (the target `bundle` does it)
#
#   tessera-bundle/bin/        tessera, mpirun, gpu-tests: small scripts that find the libraries
#                  libexec/    the programs themselves, stripped
#                  lib/        the CUDA plugin, and the libraries that are neither the system's nor CUDA's
#                  openmpi/    Open MPI as this machine has it, used where the site has none of its own
#                  share/      configs and the sources of the tests' scripts
#
# What is left out on purpose: glibc, the driver, cuBLASLt, NVRTC and NCCL.
cmake_policy(VERSION 3.22)
set(bundle ${BUILD}/tessera-bundle)
file(REMOVE_RECURSE ${bundle} ${bundle}.tar.xz)
file(MAKE_DIRECTORY ${bundle}/bin ${bundle}/lib ${bundle}/libexec ${bundle}/openmpi/lib ${bundle}/share)

# ---- Programs and the plugin ----
set(programs ${BUILD}/tessera)
foreach(test test_gpu test_comm)
  if(EXISTS ${BUILD}/tests/${test})
    list(APPEND programs ${BUILD}/tests/${test})
  endif()
endforeach()
file(GLOB benchmarks ${BUILD}/bench/bench_*)
list(APPEND programs ${benchmarks})
foreach(program IN LISTS programs)
  file(INSTALL ${program} DESTINATION ${bundle}/libexec USE_SOURCE_PERMISSIONS)
endforeach()
set(modules)
if(EXISTS ${BUILD}/libtessera_cuda.so)
  set(modules ${BUILD}/libtessera_cuda.so)
  file(INSTALL ${modules} DESTINATION ${bundle}/lib)
endif()

# ---- Open MPI's runtime: launcher, daemon, components that need no network library of the vendor ----
find_program(mpirun mpirun)
find_program(orted NAMES orted prted)
find_program(ompi_info ompi_info)
set(mpi_programs)
set(components)
if(mpirun AND orted AND ompi_info)
  execute_process(COMMAND ${ompi_info} --parsable --path pkglibdir OUTPUT_VARIABLE component_folder)
  execute_process(COMMAND ${ompi_info} --parsable --path pkgdatadir OUTPUT_VARIABLE data_folder)
  string(REGEX REPLACE "^[^/]*(/.*)\n$" "\\1" component_folder "${component_folder}")
  string(REGEX REPLACE "^[^/]*(/.*)\n$" "\\1" data_folder "${data_folder}")
  file(REAL_PATH ${mpirun} mpirun)
  foreach(program ${mpirun} ${orted})
    file(REAL_PATH ${program} program)
    list(APPEND mpi_programs ${program})
    file(INSTALL ${program} DESTINATION ${bundle}/openmpi/bin USE_SOURCE_PERMISSIONS)
  endforeach()
  file(GLOB components ${component_folder}/mca_*.so)
  list(FILTER components EXCLUDE REGEX "_(ucx|ofi|psm2?|usnic|openib|portals4|hcoll|cuda|monitoring|java|lustre|gpfs)\\.so$")
  file(INSTALL ${components} DESTINATION ${bundle}/openmpi/lib/openmpi)
  file(INSTALL ${data_folder}/ DESTINATION ${bundle}/openmpi/share/openmpi FOLLOW_SYMLINK_CHAIN
    FILES_MATCHING PATTERN "*.txt")
else()
  message(STATUS "bundle: this machine has no Open MPI runtime, so the bundle has none")
endif()

# ---- The libraries that these need ----
# glibc's parts, the driver and CUDA's libraries are the other machine's.
set(not_ours "^ld-linux" "^lib(c|m|dl|rt|pthread|util|resolv|anl)\\.so" "^libcuda\\.so" "^libcudart" "^libcublas"
  "^libnvrtc" "^libnvJitLink" "^libnccl" "^libcudnn" "^libnvidia")
foreach(group ours mpi)
  if(group STREQUAL ours)
    file(GET_RUNTIME_DEPENDENCIES EXECUTABLES ${programs} MODULES ${modules}
      RESOLVED_DEPENDENCIES_VAR found UNRESOLVED_DEPENDENCIES_VAR missing PRE_EXCLUDE_REGEXES ${not_ours})
  elseif(mpi_programs)
    file(GET_RUNTIME_DEPENDENCIES EXECUTABLES ${mpi_programs} MODULES ${components}
      RESOLVED_DEPENDENCIES_VAR found UNRESOLVED_DEPENDENCIES_VAR missing PRE_EXCLUDE_REGEXES ${not_ours})
  else()
    continue()
  endif()
  if(missing)
    message(FATAL_ERROR "bundle: needed and not found on this machine: ${missing}")
  endif()
  foreach(library IN LISTS found)
    get_filename_component(name ${library} NAME)
    # MPI and what it brings stand apart, so that the site's own comes first.
    if(name MATCHES "^lib(mpi|open-rte|open-pal|pmix|hwloc|event|munge|mca_common|prrte|ltdl|udev)" OR group STREQUAL mpi)
      set(folder ${bundle}/openmpi/lib)
    else()
      set(folder ${bundle}/lib)
    endif()
    if(NOT EXISTS ${bundle}/lib/${name})
      file(INSTALL ${library} DESTINATION ${folder} FOLLOW_SYMLINK_CHAIN)
    endif()
  endforeach()
endforeach()
# PMIx opens its components by itself, from a folder of its own.
file(GLOB pmix_components /usr/lib/*/pmix2/lib/pmix/*.so)
if(pmix_components AND EXISTS ${bundle}/openmpi/lib/libpmix.so.2)
  file(INSTALL ${pmix_components} DESTINATION ${bundle}/openmpi/lib/pmix)
endif()

# ---- Scripts, configs, and less weight ----
foreach(script tessera mpirun)
  file(INSTALL ${SOURCE}/cmake/bundle/${script} DESTINATION ${bundle}/bin USE_SOURCE_PERMISSIONS)
endforeach()
file(INSTALL ${SOURCE}/tests/gpu/run DESTINATION ${bundle}/bin RENAME gpu-tests USE_SOURCE_PERMISSIONS)
file(INSTALL ${SOURCE}/cmake/bundle/README.txt ${SOURCE}/LICENSE DESTINATION ${bundle})
file(INSTALL ${SOURCE}/cmake/bundle/libraries.sh DESTINATION ${bundle}/libexec)
file(INSTALL ${SOURCE}/launch/configs DESTINATION ${bundle}/share)
file(INSTALL ${SOURCE}/tests/gpu/compare_pytorch.py DESTINATION ${bundle}/share USE_SOURCE_PERMISSIONS)

find_program(strip strip)
file(GLOB_RECURSE elves ${bundle}/libexec/* ${bundle}/lib/*.so* ${bundle}/openmpi/lib/*.so* ${bundle}/openmpi/bin/*)
foreach(elf IN LISTS elves)
  if(IS_SYMLINK ${elf} OR elf MATCHES "\\.sh$")
    continue()
  endif()
  if(elf MATCHES "^${bundle}/libexec/|libtessera_cuda")
    file(RPATH_REMOVE FILE ${elf})
  endif()
  if(strip)
    # The programs' own dynamic symbols stay: the plugin takes core's from them.
    execute_process(COMMAND ${strip} --strip-unneeded ${elf} ERROR_QUIET)
  endif()
endforeach()

get_filename_component(parent ${bundle} DIRECTORY)
execute_process(COMMAND ${CMAKE_COMMAND} -E tar cJf ${bundle}.tar.xz tessera-bundle WORKING_DIRECTORY ${parent})
file(SIZE ${bundle}.tar.xz size)
math(EXPR megabytes "(${size} + 999999) / 1000000")
message(STATUS "bundle: ${bundle} and ${bundle}.tar.xz (${megabytes} MB)")
