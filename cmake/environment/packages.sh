#!/bin/sh
# packages.sh SET...: the Debian packages of these sets, one a line.
awk -v sets=" $* " '!/^#/ && NF && index(sets, " " $3 " ") { print $1 }' "$(dirname "$0")/packages.txt"
