# Options, declared once.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

option(GRIST_NATIVE "Optimise for the machine that builds (never in a package)" OFF)
option(GRIST_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(GRIST_BENCHMARKS "Build the benchmarks" ${PROJECT_IS_TOP_LEVEL})
set(GRIST_SANITIZE "" CACHE STRING "Sanitizer: address, undefined or empty")
set(GRIST_DEVICE_CHECK "" CACHE STRING "`./run check-devices` compiles for a device that is not there: cuda, hip or empty")
set(GRIST_ONEDNN AUTO CACHE STRING "oneDNN for many tokens on the CPU: AUTO, ON or OFF")
set_property(CACHE GRIST_SANITIZE PROPERTY STRINGS "" address undefined)
set_property(CACHE GRIST_ONEDNN PROPERTY STRINGS AUTO ON OFF)

find_program(GRIST_CCACHE ccache)
mark_as_advanced(GRIST_CCACHE)
if(GRIST_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${GRIST_CCACHE}")
endif()

# Warnings, machine flags and sanitizers, on our own code only.
add_library(grist_flags INTERFACE)
target_compile_options(grist_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor
  -Wno-missing-field-initializers  # designated initializers leave members to their defaults on purpose
  -Wno-psabi)                      # no object file crosses compilers
if(GRIST_NATIVE)
  target_compile_options(grist_flags INTERFACE -march=native)
endif()
if(GRIST_SANITIZE)
  target_compile_options(grist_flags INTERFACE -fsanitize=${GRIST_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(grist_flags INTERFACE -fsanitize=${GRIST_SANITIZE})
endif()
