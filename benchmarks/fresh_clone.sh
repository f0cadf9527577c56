#!/usr/bin/env bash
# Bars of a fresh clone: clone into an empty directory, clean environment,
# set-up with the network, then `make demo` and `make test` without it (only
# loopback), timed. Prints one line of JSON a bar; exits 0 only if all hold.
# usage: benchmarks/fresh_clone.sh [PYTHON ...]      (default: python3.11)
# Blocking the network takes root or unprivileged user namespaces.
set -uo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
[ $# -gt 0 ] || set -- python3.11
work=$(mktemp -d "${TMPDIR:-/tmp}/pp-fresh-XXXXXX")
trap 'rm -rf "$work"' EXIT
# Seconds that the first demo, set-up included, and the tests may take.
first_demo=360
tests=1500
failed=0
namespace=(--net)
[ "$(id -u)" -eq 0 ] || namespace+=(--map-root-user)

bar() { # name, seconds, limit, exit code
    local pass=true
    if [ "$4" -ne 0 ] || [ "$2" -gt "$3" ]; then pass=false; failed=1; fi
    printf '{"bar": "%s", "value": %d, "limit": "<= %d", "pass": %s, "note": "seconds; exit code %d"}\n' \
        "$1" "$2" "$3" "$pass" "$4"
}

clean() { # a command in an environment of its own
    env -i HOME="$work/home" PATH="$PATH" LANG=C.UTF-8 TMPDIR="$work/tmp" \
        ${SSL_CERT_FILE:+SSL_CERT_FILE="$SSL_CERT_FILE"} \
        ${PIP_CERT:+PIP_CERT="$PIP_CERT"} \
        ${REQUESTS_CA_BUNDLE:+REQUESTS_CA_BUNDLE="$REQUESTS_CA_BUNDLE"} \
        ${PIP_INDEX_URL:+PIP_INDEX_URL="$PIP_INDEX_URL"} \
        ${UV_INDEX_URL:+UV_INDEX_URL="$UV_INDEX_URL"} \
        ${HTTPS_PROXY:+HTTPS_PROXY="$HTTPS_PROXY"} \
        "$@"
}

offline() { # the same without a network but loopback
    clean unshare "${namespace[@]}" -- sh -c 'ip link set lo up && exec "$@"' offline "$@"
}

for python in "$@"; do
    interpreter=$(command -v "$python") || { echo "no $python here" >&2; failed=1; continue; }
    # A path may be given.
    name=$(basename "$python")
    clone="$work/$name/prompt-processing"
    mkdir -p "$work/home" "$work/tmp"
    rm -rf "$clone"
    git clone --quiet "$here" "$clone" || exit 1
    log="$work/$name.log"
    begin=$SECONDS
    clean make -C "$clone" PYTHON="$interpreter" setup >"$log" 2>&1
    code=$?
    setup=$((SECONDS - begin))
    bar "fresh clone, $name: make setup" "$setup" "$first_demo" "$code"
    [ "$code" -eq 0 ] || { tail -20 "$log" >&2; continue; }
    begin=$SECONDS
    offline make -C "$clone" PYTHON="$interpreter" demo >"$log" 2>&1
    code=$?
    [ "$code" -eq 0 ] || tail -20 "$log" >&2
    bar "fresh clone, $name: make demo, set-up included" $((setup + SECONDS - begin)) "$first_demo" "$code"
    begin=$SECONDS
    offline make -C "$clone" PYTHON="$interpreter" test >"$log" 2>&1
    code=$?
    [ "$code" -eq 0 ] || tail -40 "$log" >&2
    bar "fresh clone, $name: make test" $((SECONDS - begin)) "$tests" "$code"
done
exit "$failed"
