#!/bin/bash
# run_test.sh: checks `run` and its lists, without network and without making an image. Prints what fails.
# A bare system of stand-ins is put before PATH, so that no tool of this machine is used.
set -uo pipefail
unset GRIST_ENV GRIST_PRESET GRIST_KIND
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# expect NAME PATTERN TEXT: TEXT has a line that matches PATTERN.
expect() {
  grep -qE -- "$2" <<<"$3" && return
  printf 'FAILED %s: no line matches "%s" in:\n%s\n' "$1" "$2" "$3"
  failures=$((failures + 1))
}
same() { [ "$2" = "$3" ] || { printf 'FAILED %s: "%s" is not "%s"\n' "$1" "$2" "$3"; failures=$((failures + 1)); }; }

# A clone of its own, so that nothing here touches the real .env and build.
clone=$work/clone
mkdir -p "$clone/cmake" "$work/bin"
cp "$root/run" "$clone/"
cp -r "$root/cmake/environment" "$clone/cmake/"
stand_in() { printf '#!/bin/bash\n%s\n' "$2" >"$work/bin/$1" && chmod +x "$work/bin/$1"; }
run() { (cd "$clone" && PATH=$work/bin:$PATH ./run "$@" 2>&1); echo "exit $?"; }

# ---- the lists
listed=$(awk '!/^#/ && NF && $2 != "-" { print $2 }' "$root/cmake/environment/packages.txt" | sort)
spack=$(sed -n 's/^  - //p' "$root/cmake/environment/spack.yaml" | sort)
same "spack.yaml has the specs of packages.txt" "$spack" "$listed"
same "every line of packages.txt has a known set" \
  "$(awk '!/^#/ && NF && $3 !~ /^(build|openmp|test|tools|peers|devices|kokkos-kernels)$/' "$root/cmake/environment/packages.txt")" ""
same "no package is listed twice" "$(awk '!/^#/ && NF { print $1 }' "$root/cmake/environment/packages.txt" | sort | uniq -d)" ""
expect "packages.sh selects by set" '^libkokkos-dev$' "$("$root/cmake/environment/packages.sh" build openmp)"
same "packages.sh leaves other sets out" "$("$root/cmake/environment/packages.sh" build | grep -c torch)" 0

# ---- the command line
expect "help teaches" './run demo' "$(run --help)"
expect "no argument teaches" './run demo' "$(run)"
expect "an unknown option is refused" '^exit 2$' "$(run --perrs true)"
expect "a bad GRIST_ENV is refused" "must be 'host' or 'image'" "$(GRIST_ENV=cloud run true)"

# ---- the host, where it serves
export GRIST_ENV=host
expect "a command runs" '^exit 3$' "$(run bash -c 'exit 3')"
expect "arguments stay whole" '^\[a b\]\[\*\]exit 0$' "$(run printf '[%s]' 'a b' '*')"
expect "the built programs come first on PATH" "^$clone/build/asan/bin:" "$(run --preset asan printenv PATH)"
unset GRIST_ENV
stand_in cmake 'echo asked >>'"$work/asked"
expect "the host is used where CMake is content" '^exit 0$' "$(run true)"
run true >/dev/null
same "CMake is asked once" "$(wc -l <"$work/asked")" 1
touch -d '2001-01-01' "$work/bin/cmake"
run true >/dev/null
same "and again when it changed" "$(wc -l <"$work/asked")" 2

# ---- the image, where the host does not serve
stand_in cmake 'exit 1'
stand_in bwrap 'echo "bwrap: No permissions" >&2; exit 1'
stand_in apt-get 'exit 1'
for tool in mmdebstrap newuidmap; do stand_in "$tool" 'exit 0'; done
expect "forbidden namespaces are named" 'forbids namespaces .*No permissions.*Dockerfile' "$(run true)"
stand_in bwrap 'exit 0'
stand_in mmdebstrap 'echo "E: no such mirror" >&2; exit 1'
said=$(run true)
expect "a failed making says why" 'no such mirror' "$said"
expect "a failed making ends with 1" '^exit 1$' "$said"
same "a failed making leaves no image" "$(find "$clone/.env" -maxdepth 1 -name 'image-*')" ""

[ "$failures" = 0 ] && echo "all checks of run passed"
exit $((failures > 0))
