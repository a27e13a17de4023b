# `cmake --install` lays the package out so that another project says
#
#   find_package(Tessera 0.1 REQUIRED)
#   target_link_libraries(mine PRIVATE Tessera::launch)
#
# and includes "core/types/shape.h" as the sources here do.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Tessera)

foreach(folder core partitioner kernels models launch)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${folder}
    DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/tessera
    FILES_MATCHING PATTERN "*.h")
endforeach()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/launch/configs DESTINATION ${CMAKE_INSTALL_DATADIR}/tessera
  OPTIONAL)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/proto DESTINATION ${CMAKE_INSTALL_DATADIR}/tessera
  FILES_MATCHING PATTERN "*.proto")

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/TesseraConfig.cmake.in
  ${PROJECT_BINARY_DIR}/TesseraConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/TesseraConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES
  ${PROJECT_BINARY_DIR}/TesseraConfig.cmake
  ${PROJECT_BINARY_DIR}/TesseraConfigVersion.cmake
  ${PROJECT_SOURCE_DIR}/cmake/TesseraDependencies.cmake
  DESTINATION ${package_dir})
install(EXPORT TesseraTargets NAMESPACE Tessera:: DESTINATION ${package_dir})

# What runs elsewhere without being installed there.
if(TARGET tessera)
  add_custom_target(bundle
    COMMAND ${CMAKE_COMMAND} -DBUILD=${PROJECT_BINARY_DIR} -DSOURCE=${PROJECT_SOURCE_DIR}
            -P ${PROJECT_SOURCE_DIR}/cmake/TesseraBundle.cmake
    USES_TERMINAL VERBATIM)
  add_dependencies(bundle tessera)
  foreach(part tessera_cuda test_gpu)
    if(TARGET ${part})
      add_dependencies(bundle ${part})
    endif()
  endforeach()
endif()
