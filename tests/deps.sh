#!/bin/sh
# Install the Debian packages named as arguments, those that are missing; when none is, nothing is called and nothing
# printed. It runs before there is a compiler, a Lua or a bash-only tool, hence plain sh.
set -u
missing=
command -v dpkg-query >/dev/null 2>&1 || {
    echo "deps: this system has no dpkg; needed, by Debian's names: $*"
    exit 0
}
# Those of the packages named that are installed. A library may be here for a foreign architecture only, or for several:
# this machine's own is the one that counts.
native=$(dpkg --print-architecture)
installed() {
    dpkg-query -W -f '${db:Status-Status} ${Architecture} ${Package}\n' "$@" 2>/dev/null |
        sed -nE "s/^installed ($native|all) (.*)/ \2 /p"
}
# Debian has two LuaJITs that exclude each other: its own, and OpenResty's, which nginx's Lua module is bound to. Either
# will do, so who has the second keeps it, and the module with it.
if [ -n "$(installed libluajit2-5.1-2)" ]; then
    for name in "$@"; do
        shift
        case $name in
        luajit) name=luajit2 ;;
        libluajit-5.1-dev) name=libluajit2-5.1-dev ;;
        esac
        set -- "$@" "$name"
    done
fi
here=$(installed "$@")
for name in "$@"; do
    case "$here $missing " in
    *" $name "*) ;;
    *) missing="$missing $name" ;;
    esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    root="env"
elif command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    root="sudo env"
else
    echo "deps: missing packages; as root, or with sudo, run:" >&2
    echo "  apt-get update && apt-get install -y --no-install-recommends$missing" >&2
    exit 1
fi
echo "deps: installing$missing"
# An unreachable index among several does not matter if the packages can be had: install is the judge.
$root apt-get update -qq || echo "deps: apt-get update failed; trying the lists that are here" >&2
# shellcheck disable=SC2086
$root DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 install -y \
    --no-install-recommends $missing
