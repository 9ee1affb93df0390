# Warnings, machine flags and sanitizers, on our own code only.
add_library(grist_flags INTERFACE)
target_compile_options(grist_flags INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor
  -Wno-missing-field-initializers  # designated initializers leave members to their defaults on purpose
  -Wno-psabi)                      # no object file crosses compilers
if(NOT GRIST_KOKKOS_BACKEND STREQUAL CUDA)
  target_compile_options(grist_flags INTERFACE -Wpedantic)  # what nvcc makes of a source is not pedantic itself
endif()
if(GRIST_NATIVE)
  target_compile_options(grist_flags INTERFACE -march=native)
endif()
if(GRIST_SANITIZE)
  target_compile_options(grist_flags INTERFACE -fsanitize=${GRIST_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(grist_flags INTERFACE -fsanitize=${GRIST_SANITIZE})
endif()
