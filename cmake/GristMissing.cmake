# What to do where a dependency is missing: the names of its packages come from the one list, environment/packages.txt.

# grist_missing(DEBIAN_PACKAGE NAME VARIABLE): ends with one line that names the packages, and the variable that says
# where it is.
function(grist_missing package name variable)
  file(STRINGS "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/environment/packages.txt" line REGEX "^${package}[ \t]")
  if(NOT line)
    message(FATAL_ERROR "${package} is not in cmake/environment/packages.txt")
  endif()
  string(REGEX REPLACE "^[^ \t]+[ \t]+([^ \t]+).*" "\\1" spec "${line}")
  set(ways "Debian: apt install ${package}")
  if(NOT spec STREQUAL "-")
    string(APPEND ways "; Spack: spack install ${spec}")
  endif()
  message(FATAL_ERROR "${name} is missing. ${ways}; or say where it is by ${variable}. `./run build` needs none of"
    " them on this machine")
endfunction()

# grist_find(DEBIAN_PACKAGE NAME [find_package's arguments]): find_package, which must find it.
macro(grist_find package name)
  find_package(${name} ${ARGN} QUIET)
  if(NOT ${name}_FOUND)
    set(grist_wanted "${name}" ${ARGN})
    list(FILTER grist_wanted EXCLUDE REGEX "COMPONENTS|^C$|^Trainer$")
    list(JOIN grist_wanted " >= " grist_wanted)
    grist_missing(${package} "${grist_wanted}" "-D${name}_ROOT=FOLDER")
  endif()
endmacro()
