# shellcheck shell=bash disable=SC2034,SC2154  # read by `run`, which gives root, store, say, die, locked
# Where grist's commands run: this machine itself where it has what grist needs, else a private image in .env.
environment=$root/cmake/environment
kind=${GRIST_KIND:-image}                            # the image to use: image, peers, devices or kokkos-kernels
made=$(cat /etc/grist-image 2>/dev/null || echo host)   # which making of which environment: its builds fit no other
entering=()                                          # what is put before a command to run it in the environment
other_ways="other ways: load or install Kokkos >= 5, MPI, parallel HDF5 and GoogleTest (cmake/environment/spack.yaml), \
or work in the container of cmake/environment/Dockerfile"

# choose_environment FOLDER: with the programs of FOLDER first on PATH.
choose_environment() {
  case ${GRIST_ENV:-} in
    host) ;;
    image) enter_image "$1" ;;
    '') if [ "$kind" != image ] || ! host_serves; then enter_image "$1"; fi ;;
    *) die "GRIST_ENV is '$GRIST_ENV', but must be 'host' or 'image'" ;;
  esac
  [ "${#entering[@]}" -gt 0 ] || PATH=$1:$PATH
}

# Can this machine build grist? CMake tells; its answer is kept until something changes on which it may depend.
host_serves() {
  local cmake answer scratch
  cmake=$(type -P cmake) || return 1
  answer=$store/host/$({
    cat "$environment/probe/CMakeLists.txt"
    stat -c '%n %y' "$cmake" /var/lib/dpkg/status /var/lib/rpm 2>/dev/null || true
    env | grep -E '^(PATH|CC|CXX|CMAKE_[A-Z_]*|[A-Za-z0-9]+_(ROOT|DIR|HOME)|LOADEDMODULES)=' | sort
  } | sha256sum | cut -c 1-16)
  if [ ! -e "$answer" ]; then
    mkdir -p "$store/host"
    scratch=$(mktemp -d "$store/host/probe.XXXXXX")
    if cmake -G Ninja -S "$environment/probe" -B "$scratch" >"$scratch/log" 2>&1
    then echo yes; else echo no; fi >"$scratch/answer"
    mv "$scratch/answer" "$answer"
    rm -rf "$scratch"
  fi
  [ "$(<"$answer")" = yes ]
}

enter_image() {
  local sets=(build test tools) packages image in_use
  [ "$kind" = kokkos-kernels ] || sets+=(openmp)
  [ "$kind" = image ] || sets+=("$kind")
  packages=$("$environment/packages.sh" "${sets[@]}" | sort)
  image=$store/$kind-$(cat - "$environment/image.sh" "$environment/mend.sh" <<<"$packages" | sha256sum | cut -c 1-12)
  need bwrap bubblewrap
  [ -e "$image" ] || locked image make_image "$image" "$packages"
  made=$(<"$image/etc/grist-image")
  exec {in_use}<"$image/etc/grist-image"
  flock -s "$in_use" 2>/dev/null || true   # while a command runs, nobody removes its image
  describe_entering "$image" "$1"
}

make_image() {
  local image=$1 packages=$2 old log=$store/$kind.log status=0
  [ ! -e "$image" ] || return 0
  rm -rf --one-file-system "$store"/{image,peers,devices,kokkos-kernels}-*.part*   # left by a making that was killed
  check_image_can_be_made
  say "making the environment in .env, once (a minute or two) ..."
  # shellcheck disable=SC2086
  "$environment/image.sh" "$image" $packages >"$log" 2>&1 || status=$?
  [ "$status" != 130 ] || die "interrupted; nothing half-made is left"
  if [ "$status" != 0 ]; then
    grep '^E:' "$log" | tail -n 3 >&2 || true
    die "the environment could not be made (.env/$kind.log tells more); $other_ways"
  fi
  for old in "$store/$kind"-*/; do
    [ "$old" = "$image/" ] || flock -n "$old/etc/grist-image" rm -rf "$old" || true
  done
}

check_image_can_be_made() {
  local said
  need mmdebstrap mmdebstrap
  need /usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
  said=$(bwrap --bind / / true 2>&1) || die "this machine forbids namespaces (${said:-bwrap fails}); $other_ways"
  [ "$UID" != 0 ] || return 0
  need newuidmap uidmap
  grep -qE "^($(id -un)|$UID):" /etc/subuid ||
    die "you have no sub-uids; ask for: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)"
}

# need COMMAND-OR-FILE PACKAGE: where it is missing, root gets the package installed and others are told.
need() {
  [ -e "$(type -P "$1" || echo "$1")" ] && return
  type -P apt-get >/dev/null || die "$2 is missing; $other_ways"
  [ "$UID" = 0 ] || die "please have these installed: apt-get install bubblewrap mmdebstrap uidmap; $other_ways"
  say "installing $2 ..."
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$2"; } \
    >/dev/null 2>&1 || die "apt-get install $2 failed; $other_ways"
}

# describe_entering IMAGE FOLDER: the image is the system, read-only; all else is this machine's, at its own paths.
describe_entering() {
  local image=$1 path name
  entering=(bwrap --die-with-parent --bind "$image" / --dev-bind /dev /dev --proc /proc --ro-bind /sys /sys
    --bind /run /run --bind /var/tmp /var/tmp)
  for path in /*; do
    case $path in
      /bin | /sbin | /lib | /lib32 | /lib64 | /libx32 | /usr | /etc | /var) ;;
      /boot | /dev | /proc | /sys | /run | /lost+found) ;;
      *) if [ -d "$path" ] && [ -x "$path" ]; then entering+=(--bind "$path" "$path"); fi ;;
    esac
  done
  for path in "$root" "${HOME:-/}" "${TMPDIR:-/tmp}"; do
    case $path in
      /var/?* | /usr/src/?* | /usr/local/?*) if [ -d "$path" ]; then entering+=(--bind "$path" "$path"); fi ;;
    esac
  done
  for path in /etc/{resolv.conf,hosts,pip.conf,ssl/certs/ca-certificates.crt}; do
    if [ -e "$path" ]; then entering+=(--ro-bind "$path" "$path"); fi
  done
  if [ "$UID" != 0 ]; then entering+=(--ro-bind "$(users_of "$image")" /etc/passwd); fi
  # What names this machine's own compilers, libraries and languages would mislead the image's.
  for name in CC CXX CFLAGS CXXFLAGS LD_LIBRARY_PATH LD_PRELOAD LIBRARY_PATH CPATH PKG_CONFIG_PATH CMAKE_PREFIX_PATH \
    PYTHONPATH PYTHONHOME LANGUAGE LANG $(compgen -e | grep -E '^[A-Za-z0-9]+_ROOT$'); do
    entering+=(--unsetenv "$name")
  done
  # In the image one is root without being it, and tests start more ranks than there are cores: Open MPI wants to be
  # told. There is one machine: its shared memory serves, looking for networks takes a second at each start, and UCX's
  # one-sided access, which finds no network, says so as an error.
  entering+=(--setenv OMPI_ALLOW_RUN_AS_ROOT 1 --setenv OMPI_ALLOW_RUN_AS_ROOT_CONFIRM 1
    --setenv PRTE_MCA_mapby :oversubscribe --setenv OMPI_MCA_pml ob1 --setenv OMPI_MCA_btl self,sm
    --setenv OMPI_MCA_osc ^ucx
    --setenv OMPI_MCA_fcoll individual)   # as the program sets it (src/cli/mpi/processes.cpp)
  entering+=(--setenv LC_ALL C.UTF-8 --setenv GRIST_ENV host --setenv GRIST_KIND "$kind"
    --setenv CCACHE_DIR "$store/ccache" --setenv CCACHE_SLOPPINESS "pch_defines,time_macros"
    --setenv PATH "$2:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" --remount-ro / --chdir "$PWD")
}

# The image's passwd with the user in it.
users_of() {
  local users=$store/passwd-$UID
  { cat "$1/etc/passwd"; getent passwd "$UID" || echo "user:x:$UID:$(id -g)::${HOME:-/}:/bin/sh"; } >"$users.$$"
  mv "$users.$$" "$users"
  echo "$users"
}
