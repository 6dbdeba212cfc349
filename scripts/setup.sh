#!/bin/sh
# Installs the packages that building and testing need and that are missing, saying which. On Debian
# and Ubuntu with apt-get; elsewhere it names them and leaves the rest to you.
set -eu

packages="gcc libc6-dev cmake make pkg-config protobuf-c-compiler libprotobuf-c-dev libjansson-dev
          libyaml-dev libdnnl-dev libarchive-dev libjpeg-dev libpng-dev zlib1g-dev
          libcmocka-dev python3 python3-venv"

if ! command -v dpkg-query >/dev/null 2>&1; then
    for tool in cc cmake pkg-config protoc-c python3; do
        command -v $tool >/dev/null 2>&1 || missing="${missing:-} $tool"
    done
    for library in libprotobuf-c jansson yaml-0.1 libarchive libjpeg libpng zlib cmocka; do
        pkg-config --exists $library 2>/dev/null || missing="${missing:-} $library"
    done
    printf '#include <dnnl.h>\n' | cc -E - >/dev/null 2>&1 || missing="${missing:-} oneDNN"
    [ -z "${missing:-}" ] || { echo "Please install:$missing" >&2; exit 1; }
    exit 0
fi

missing=
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "Please install (as root):$missing" >&2; exit 1; }
    sudo=sudo
fi
echo "Installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
$sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 || {
    $sudo apt-get update -qq
    $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
