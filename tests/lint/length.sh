#!/usr/bin/env bash
# Files of at most 500 lines; those that say in their first five lines that they are generated may be longer, and so may
# the one public header.
# Argument: the tree to read (default: this one).
set -u
cd "${1:-$(dirname "$0")/../..}" || exit 1
status=0
while IFS= read -r file; do
    lines=$(wc -l <"$file")
    if [ "$lines" -gt 500 ] && ! head -n 5 "$file" | grep -qi generated; then
        echo "$file: $lines lines; is there a second noun in it?"
        status=1
    fi
done < <(find . -path ./.git -prune -o -path './build*' -prune -o -path ./doc -prune -o -type f \
    ! -path ./engine/include/perigee.h \( -name '*.[ch]' -o -name '*.cu' -o -name '*.lua' -o -name '*.sh' -o -name '*.awk' -o -name '*.py' -o -name Makefile -o -path ./.ci/run \) -print)
exit $status
