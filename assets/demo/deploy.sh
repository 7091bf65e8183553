#!/bin/sh
# Copies the files named in deploy.files to the folder that the platform serves, and switches to them.
set -eu
release="$1/releases/$AFK_SHA"
rm -rf "$release.new"
mkdir -p "$release.new"
while read -r file; do
    cp "$file" "$release.new/"
done < deploy.files
echo "$AFK_SHA" > "$release.new/REVISION"
rm -rf "$release"
mv "$release.new" "$release"
ln -sfn "$release" "$1/current.new"
mv -T "$1/current.new" "$1/current" 2>/dev/null || { rm -f "$1/current"; mv "$1/current.new" "$1/current"; }
echo "released $AFK_SHA"
