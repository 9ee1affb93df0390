# Install and package configuration: find_package(grist [COMPONENTS ...]) gives grist::core ... grist::generate. Headers
# and libraries are installed by grist_library().
include(CMakePackageConfigHelpers)
install(TARGETS grist RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
get_property(GRIST_COMPONENTS GLOBAL PROPERTY GRIST_COMPONENTS)  # each after those that it links
set(GRIST_COMPONENT_LINKS "")
foreach(name IN LISTS GRIST_COMPONENTS)
  get_property(links GLOBAL PROPERTY GRIST_COMPONENT_${name})
  string(APPEND GRIST_COMPONENT_LINKS "set(grist_links_${name} ${links})\n")
endforeach()
configure_package_config_file(
  "${PROJECT_SOURCE_DIR}/cmake/gristConfig.cmake.in" "${PROJECT_BINARY_DIR}/gristConfig.cmake"
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/grist)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/gristConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/gristConfig.cmake" "${PROJECT_BINARY_DIR}/gristConfigVersion.cmake"
  "${PROJECT_SOURCE_DIR}/cmake/FindSentencePiece.cmake" "${PROJECT_SOURCE_DIR}/cmake/FindUnistring.cmake"
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/grist)

function(grist_print_summary)
  message(STATUS "grist ${PROJECT_VERSION}")
  foreach(row IN LISTS GRIST_FOUND_TABLE)
    if(row)
      string(REPLACE "|" ";" cells "${row}")
      list(GET cells 0 name)
      list(GET cells 1 what)
      message(STATUS "  ${name}: ${what}")
    endif()
  endforeach()
endfunction()
