#!/usr/bin/env bash
# What no file of the repository may say: paths of one machine, package indexes by address, words that mean "unfinished",
# names from outside the project.
# The patterns are written with one letter in brackets, so that this file does not refuse itself.
# Argument: the tree to read (default: this one); it need not be a git checkout.
set -u
cd "${1:-$(dirname "$0")/../..}" || exit 1
status=0
refuse() { # WHAT PATTERN [CASE: -i]
    local found
    found=$(find . -path ./.git -prune -o -path './build*' -prune -o -path ./doc -prune -o -type f ! -name '*.gguf' -print0 |
        xargs -0 grep -nIE "${3:---no-ignore-case}" "$2")
    [ -z "$found" ] || { echo "$1:"; echo "$found" | head -n 20; status=1; }
}
refuse "a path of one machine" "(^|[^A-Za-z0-9_.}/])/(wo[r]k|ro[o]t|ho[m]e|U[s]ers|m[n]t)/[A-Za-z0-9_]"
refuse "a package index by address" "(ind[e]x-url|--reg[i]stry|_auth[T]oken)"
refuse "unfinished" "\b(TO[D]O|FIX[M]E|XX[X]|HA[C]K)\b"
refuse "unfinished" "\b(not [i]mplemented|st[u]b|place[h]older)s?\b" -i
refuse "a name from outside the project" "\b(C[E]O|before-st[o]p)\b"
exit $status
