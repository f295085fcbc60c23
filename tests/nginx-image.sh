#!/usr/bin/env bash
# Builds the image `nginx` from Debian's packages, into a cluster's data folder. Exit code 77: this machine has no apt.
# Usage: tests/nginx-image.sh PATH-OF-AFLOAT DATA-DIR
set -euo pipefail
afloat=$(realpath "$1") data=$(realpath "$2")
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
  echo "no apt-get and dpkg-deb: nginx comes from Debian's packages" >&2
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
# apt may want to change to a user of its own, who cannot read this folder.
get() { apt-get -o APT::Sandbox::User=root download -qq "$@"; }
packages=(nginx nginx-common busybox-static libc6 libcrypt1 libpcre2-8-0 libssl3 zlib1g)
get "${packages[@]}" >&2 || { apt-get update -qq && get "${packages[@]}"; } >&2
mkdir root
for package in *.deb; do dpkg-deb -x "$package" root; done
mkdir -p root/tmp root/run root/var/log/nginx root/var/lib/nginx root/image-bin
for applet in sh cat sleep echo ls killall mv rm find touch dd hostname printf test; do ln -sf busybox "root/bin/$applet"; done
# Logs to the container's own output, and in the foreground: what an image of nginx is expected to do.
ln -sf /dev/stdout root/var/log/nginx/access.log
ln -sf /dev/stderr root/var/log/nginx/error.log
printf 'root:x:0:0:root:/:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/sh\n' >root/etc/passwd
printf 'root:x:0:\nwww-data:x:33:\n' >root/etc/group
mkdir -p root/etc/nginx/sites-enabled
cat >root/etc/nginx/nginx.conf <<'CONF'
user root;
worker_processes 1;
pid /run/nginx.pid;
events {}
http {
  include mime.types;
  server { listen 80; root /usr/share/nginx/html; }
}
CONF
rm -rf root/image-bin
files=()
for entry in root/*; do files+=(--file "$PWD/$entry=/${entry#root/}"); done
"$afloat" image build nginx "${files[@]}" --entrypoint /usr/sbin/nginx --entrypoint -g --entrypoint 'daemon off;' \
  --env PATH=/usr/sbin:/usr/bin:/sbin:/bin --stop-signal SIGQUIT --data-dir "$data"
