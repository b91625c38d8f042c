#!/usr/bin/env bash
# The plainest way to the same packages and as many files: one shell a container, all at once, no questions asked.
# Usage: plain.sh FOLDER CONTAINER...; FOLDER has <container>.packages, <container>.sources.tar and <container>.files.tar.
set -euo pipefail
folder=$1
shift

set_up() {
    docker exec --interactive "$1" tar --extract --directory / <"$folder/$1.sources.tar"
    docker exec "$1" apt-get update --quiet=2
    xargs docker exec --env DEBIAN_FRONTEND=noninteractive "$1" \
        apt-get install --yes --quiet=2 --no-install-recommends <"$folder/$1.packages"
    docker exec --interactive "$1" tar --extract --directory / <"$folder/$1.files.tar"
}

pids=()
for container; do
    set_up "$container" &
    pids+=($!)
done
for pid in "${pids[@]}"; do
    wait "$pid"
done
