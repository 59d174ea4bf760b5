#!/bin/sh
# Installs what the tests use beside Rust, when it is missing: etcd, MariaDB and Redis, which the tests start themselves;
# a browser with its driver; and node for the page's module.
set -eu

# Servers live where only root looks by itself.
PATH=$PATH:/usr/sbin:/sbin
missing=""
need() { command -v "$1" >/dev/null 2>&1 || case " $missing " in *" $2 "*) ;; *) missing="$missing $2" ;; esac; }
need etcd etcd-server
need mariadbd mariadb-server
need mariadb mariadb-client
need redis-server redis-server
need redis-cli redis-tools
need chromium chromium
need chromedriver chromium-driver
need node nodejs
[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "The tests need:$missing. Install them with this system's package manager." >&2
    exit 1
fi
root=""
if [ "$(id -u)" -ne 0 ]; then
    root=sudo
    command -v sudo >/dev/null 2>&1 || { echo "The tests need:$missing. Install them as root with apt-get." >&2; exit 1; }
fi
echo "Installing what the tests need:$missing"
$root apt-get update -qq
# shellcheck disable=SC2086 # a list of names
DEBIAN_FRONTEND=noninteractive $root apt-get install -y -qq --no-install-recommends $missing
