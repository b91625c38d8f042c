#!/bin/sh
# Build an archive of wheels from a hash-pinned lock file, for another interpreter and machine than this one.
# Usage: wheelhouse.sh PYTHON LOCK_FILE ARCHIVE_WITHOUT_SUFFIX ARCHITECTURE PYTHON_VERSION
set -eu
python=$1 lock=$2 house=$3 architecture=$4 version=$5

mkdir -p "$(dirname "$house")"
work=$(mktemp -d "$house.XXXXXX")
trap 'rm -rf "$work"' EXIT

# --no-deps: the lock file is complete. It also allows source packages beside wheels of the target's platform.
set -- --platform "linux_$architecture"
for glibc in 2_17 2_24 2_26 2_27 2_28 2_31 2_34; do
  set -- "$@" --platform "manylinux_${glibc}_$architecture"
done
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --prefer-binary \
  --implementation cp --python-version "$version" "$@" --platform "manylinux2014_$architecture" \
  --dest "$work/wheels" --requirement "$lock"

# The few packages that are published as source only are pure Python: their wheels fit every platform.
for source in "$work"/wheels/*.tar.gz "$work"/wheels/*.zip; do
  [ -e "$source" ] || continue
  "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work/wheels" "$source"
  rm "$source"
done
for wheel in "$work"/wheels/*.whl; do
  case $wheel in
    *-none-any.whl | *manylinux*) ;;
    *) echo "$(basename "$wheel") was built for this machine only and cannot be installed on the hosts" >&2; exit 1 ;;
  esac
done

tar --create --file "$work/house.tar" --directory "$work/wheels" .
mv "$work/house.tar" "$house.tar"
