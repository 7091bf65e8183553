#!/bin/sh
# A small service: the route is the first argument, the answer goes to standard output.
# `health` asks every feature: each adds its own `check_<name>`.
here=$(dirname "$0")
checks=""

# features begin
# features end

case "$1" in
    health)
        for check in $checks; do "$check" || exit 1; done
        echo "ok $(cat "$here/REVISION" 2>/dev/null)"
        ;;
    beat) echo "beat" ;;
    *)
        if type "route_$1" >/dev/null 2>&1; then "route_$1"; else
            echo "no such route: $1" >&2; exit 4
        fi
        ;;
esac
