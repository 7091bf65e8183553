#!/bin/sh
# A small service: the route is the first argument, the answer goes to standard output.
here=$(dirname "$0")
case "$1" in
    health) echo "ok $(cat "$here/REVISION" 2>/dev/null)" ;;
    hello) echo "Hello!" ;;
    *) echo "no such route: $1" >&2; exit 4 ;;
esac
