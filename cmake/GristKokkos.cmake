# Kokkos, and which of its backends the kernels run on: afterwards GRIST_KOKKOS_BACKEND is CUDA, HIP, SYCL, OPENMP,
# THREADS or SERIAL, and GRIST_ON_DEVICE says whether that is one with memory of its own.
set(GRIST_BACKEND AUTO CACHE STRING "Backend that Kokkos must bring: AUTO (what it has), CUDA, HIP, OPENMP or SERIAL")
set_property(CACHE GRIST_BACKEND PROPERTY STRINGS AUTO CUDA HIP OPENMP SERIAL)
set(kokkos_wanted 5.0)
include(GristMissing)

find_package(Kokkos QUIET)
if(NOT Kokkos_FOUND AND NOT Kokkos_CONSIDERED_CONFIGS)
  grist_missing(libkokkos-dev "Kokkos >= ${kokkos_wanted}" "-DKokkos_ROOT=FOLDER")
elseif(NOT Kokkos_FOUND)
  message(FATAL_ERROR "Kokkos was found but cannot be used: ${Kokkos_CONSIDERED_CONFIGS} ${Kokkos_NOT_FOUND_MESSAGE}")
elseif(Kokkos_VERSION VERSION_LESS kokkos_wanted)
  message(FATAL_ERROR "Kokkos ${Kokkos_VERSION} in ${Kokkos_DIR} is too old: grist needs ${kokkos_wanted} or newer, as "
    "CUDA 13 and ROCm 7 do")
endif()
if(GRIST_DEVICE_CHECK)
  include(devices/DeviceCheck)
endif()

# Where kernels run by default, as Kokkos chooses among its backends.
foreach(backend SERIAL THREADS OPENMP SYCL HIP CUDA)
  if(backend IN_LIST Kokkos_DEVICES)
    set(GRIST_KOKKOS_BACKEND ${backend})
  endif()
endforeach()
set(GRIST_ON_DEVICE OFF)
if(GRIST_KOKKOS_BACKEND MATCHES "CUDA|HIP|SYCL")
  set(GRIST_ON_DEVICE ON)
endif()
if(NOT GRIST_BACKEND STREQUAL AUTO AND NOT GRIST_BACKEND IN_LIST Kokkos_DEVICES)
  list(JOIN Kokkos_DEVICES ", " devices)
  message(FATAL_ERROR "Kokkos ${Kokkos_VERSION} in ${Kokkos_DIR} was built for ${devices}, without ${GRIST_BACKEND}: "
    "give one that has it by -DKokkos_ROOT=FOLDER (docs/gpu.md tells how to build it)")
elseif(NOT GRIST_BACKEND STREQUAL AUTO AND NOT GRIST_BACKEND STREQUAL GRIST_KOKKOS_BACKEND)
  message(FATAL_ERROR "Kokkos ${Kokkos_VERSION} in ${Kokkos_DIR} runs its kernels on ${GRIST_KOKKOS_BACKEND}, not on "
    "${GRIST_BACKEND}: give one without ${GRIST_KOKKOS_BACKEND}, or -DGRIST_BACKEND=AUTO")
endif()

# A Kokkos that is too old for the toolkit, or was built with another, breaks in the middle of the build, with errors
# that nobody understands. One kernel tells.
if(GRIST_ON_DEVICE AND NOT GRIST_DEVICE_CHECK AND NOT GRIST_KOKKOS_COMPILES)
  # A project of its own: there Kokkos puts its compiler in place of the host's, as it does here.
  try_compile(GRIST_KOKKOS_COMPILES PROJECT kernel SOURCE_DIR "${CMAKE_CURRENT_LIST_DIR}/kernel"
    CMAKE_FLAGS "-DKokkos_DIR=${Kokkos_DIR}" -DCMAKE_CXX_STANDARD=20 "-DCMAKE_CXX_FLAGS=${CMAKE_CXX_FLAGS}"
                "-DCMAKE_PREFIX_PATH=${CMAKE_PREFIX_PATH}"
    OUTPUT_VARIABLE output)
  if(NOT GRIST_KOKKOS_COMPILES)
    string(REGEX MATCH "[^\n]*error[^\n]*" line "${output}")
    message(FATAL_ERROR "a kernel does not compile with Kokkos ${Kokkos_VERSION} in ${Kokkos_DIR} and "
      "${CMAKE_CXX_COMPILER}: is this Kokkos too old for the toolkit, or was it built with another? The first error: "
      "${line}")
  endif()
endif()

if(GRIST_ON_DEVICE AND NOT GRIST_DEVICE_CHECK STREQUAL hip)
  set(CMAKE_DISABLE_PRECOMPILE_HEADERS ON)  # what compiles for host and device at once has none
endif()
