#!/usr/bin/env bash
# Builds the images `etcd:v1` and `etcd:v2` from Debian's package etcd-server, into a cluster's data folder. The etcd of the machine is
# taken where there is one. Exit code 77: there is none, and no apt.
# Usage: tests/etcd-image.sh PATH-OF-AFLOAT DATA-DIR
set -euo pipefail
afloat=$(realpath "$1") data=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! etcd=$(command -v etcd); then
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "no etcd, and no apt-get and dpkg-deb: it comes from Debian's packages" >&2
    exit 77
  fi
  cd "$work"
  # apt may want to change to a user of its own, who cannot read this folder.
  get() { apt-get -o APT::Sandbox::User=root download -qq etcd-server; }
  get >&2 || { apt-get update -qq && get; } >&2
  dpkg-deb -x etcd-server*.deb root
  etcd=$work/root/usr/bin/etcd
fi
# One program in two releases: what counts is that the container is another one.
for release in v1 v2; do
  "$afloat" image build "etcd:$release" --libraries --file "$(realpath "$etcd")=/etcd" --entrypoint /etcd \
    --env "RELEASE=$release" --data-dir "$data"
done
