#!/bin/sh
# Installs what Roomcast uses beside Rust, when it is missing: `packages.sh servers` the servers of a cluster, which
# scripts/cluster.sh starts itself; `packages.sh tests` these and what only the tests need: a browser with its driver,
# and node for the page's module; `packages.sh bench` the registry that separate programs need, and taskset;
# `packages.sh counts` what counts instructions.
set -eu

# Servers live where only root looks by itself.
PATH=$PATH:/usr/sbin:/sbin
missing=""
need() { command -v "$1" >/dev/null 2>&1 || case " $missing " in *" $2 "*) ;; *) missing="$missing $2" ;; esac; }

servers() {
    need etcd etcd-server
    need etcdctl etcd-client
    # The programs without the service of the system that comes with mariadb-server.
    need mariadbd mariadb-server-core
    need mariadb-install-db mariadb-server-core
    need mariadb mariadb-client
    need redis-server redis-server
    need redis-cli redis-tools
}

case ${1:-} in
    servers)
        who="The cluster needs"
        servers
        ;;
    tests)
        who="The tests need"
        servers
        need chromium chromium
        need chromedriver chromium-driver
        need node nodejs
        ;;
    bench)
        who="The benchmarks need"
        need etcd etcd-server
        need taskset util-linux
        ;;
    counts)
        who="Counting instructions needs"
        need valgrind valgrind
        ;;
    *)
        echo "usage: packages.sh servers|tests|bench|counts" >&2
        exit 2
        ;;
esac
[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "$who:$missing. Install them with this system's package manager." >&2
    exit 1
fi
root=""
if [ "$(id -u)" -ne 0 ]; then
    root=sudo
    command -v sudo >/dev/null 2>&1 || { echo "$who:$missing. Install them as root with apt-get." >&2; exit 1; }
fi
echo "$who these packages, which are installed now:$missing"
$root apt-get update -qq
# shellcheck disable=SC2086 # a list of names
DEBIAN_FRONTEND=noninteractive $root apt-get install -y -qq --no-install-recommends $missing
