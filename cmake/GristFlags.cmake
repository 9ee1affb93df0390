find_program(GRIST_CCACHE ccache)
mark_as_advanced(GRIST_CCACHE)
# Kokkos' own, for CUDA: it takes no other before the compiler.
get_property(kokkos_launcher GLOBAL PROPERTY RULE_LAUNCH_COMPILE)
if(GRIST_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER AND NOT kokkos_launcher)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${GRIST_CCACHE}")
endif()

# Warnings, machine flags and sanitizers, on our own code only.
add_library(grist_flags INTERFACE)
set(together "")
if(CMAKE_UNITY_BUILD)  # GCC takes the files of one for headers, Clang the names of one for hidden ones of another
  set(together "$<IF:$<CXX_COMPILER_ID:GNU>,-Wno-subobject-linkage,-Wno-shadow>")
endif()
target_compile_options(grist_flags INTERFACE -Wall -Wextra -Wshadow ${together} -Wnon-virtual-dtor
  -Wno-missing-field-initializers  # designated initializers leave members to their defaults on purpose
  -Wno-psabi)                      # no object file crosses compilers
if(NOT GRIST_KOKKOS_BACKEND STREQUAL CUDA)
  target_compile_options(grist_flags INTERFACE -Wpedantic)  # what nvcc makes of a source is not pedantic itself
endif()
if(GRIST_NATIVE)
  target_compile_options(grist_flags INTERFACE -march=native)
endif()
if(GRIST_SANITIZE)
  target_compile_options(grist_flags INTERFACE
    -fsanitize=${GRIST_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(grist_flags INTERFACE -fsanitize=${GRIST_SANITIZE})
endif()
