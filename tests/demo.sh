#!/usr/bin/env bash
# Runs the demo under conditions in which its figures are known beforehand, and checks them: with slow proxies and a slow
# application the naive strategy loses requests and the in-place one none. Usage: tests/demo.sh PATH-OF-AFLOAT
set -euo pipefail
afloat=$1

before=$(mktemp) && after=$(mktemp)
trap 'rm -f "$before" "$after"' EXIT
host_state() { # what a run could leave behind
  { ip -o link show; ip -o addr show; ip netns list 2>/dev/null || true; cut -d' ' -f2 /proc/self/mounts
    find /sys/fs/cgroup -name 'afloat-*' 2>/dev/null || true
    pgrep -a '^afloat' || true; } | sed 's/valid_lft.*//' | sort
}

check() { # $1: who, $2: file with the JSON
  jq -e '
    def row(name): .rows[] | select(.strategy == name);
    ([.rows[].strategy] == ["deployment-naive", "deployment-careful", "cloneset-inplace", "cloneset-observed", "cloneset-recreate"])
    and (row("deployment-naive").lost > 0)
    and (row("deployment-careful").lost == 0)
    and (row("cloneset-inplace").lost == 0)
    and (row("cloneset-observed").lost == 0)
    and (row("cloneset-observed") | .pods_kept == .replicas and .ips_kept == .replicas and .untouched_kept == .replicas)
    and (row("cloneset-observed").update_seconds < row("cloneset-inplace").update_seconds)
    and (row("cloneset-inplace") | .pods_kept == .replicas and .ips_kept == .replicas and .untouched_kept == .replicas)
    and (row("deployment-naive").pods_kept == 0) and (row("cloneset-recreate").pods_kept == 0)
    and ([.rows[] | .requests > 500 and .update_seconds > 0 and .writes_per_pod > 0 and .p50_ms > 0 and .p99_ms >= .p50_ms] | all)
    and (.cluster.nodes == 3)
  ' "$2" >/dev/null || { echo "$1: the demo's figures are not as they must be:"; jq . "$2"; return 1; }
  jq -r --arg who "$1" '"\($who): boot \(.cluster.boot_seconds) s, \(.cluster.rss_mib) MiB; " +
    ([.rows[] | "\(.strategy) \(.update_seconds) s, lost \(.lost) of \(.requests), \(.writes_per_pod) writes a pod"] | join("; "))' "$2"
}

run() { # $1: who; the rest: command line in front
  local who=$1 out; shift
  out=$(mktemp)
  host_state >"$before"
  "$@" "$afloat" demo --json --proxy-lag 1s --app-start 2s >"$out" || { echo "$who: the demo failed"; cat "$out"; return 1; }
  host_state >"$after"
  if comm -13 "$before" "$after" | grep .; then echo "$who: the demo left this behind"; return 1; fi
  check "$who" "$out"
  rm -f "$out"
}

run "as $(id -un)"
if [ "$(id -u)" = 0 ]; then
  copy=$(mktemp -d) # a checkout below /root is not an ordinary user's to read
  trap 'rm -rf "$before" "$after" "$copy"' EXIT
  install -m 755 "$afloat" "$copy/afloat"
  chmod 755 "$copy"
  afloat=$copy/afloat
  run "as nobody" setpriv --reuid 65534 --regid 65534 --clear-groups env HOME="$copy"
fi
