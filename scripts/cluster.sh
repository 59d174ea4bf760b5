#!/usr/bin/env bash
# A Roomcast cluster on this machine: etcd, MariaDB, Redis, two controller-managers, two push-managers and connect-nodes,
# each a process of its own. Data, logs and pid files are in one private folder, .cluster.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: scripts/cluster.sh start          starts what does not run yet, and waits until all are ready
       scripts/cluster.sh start-node N   the same for connect-node N alone
       scripts/cluster.sh stop           ends what start started; data and logs stay
       scripts/cluster.sh status         shows every process; exits with 0 when all are ready, else with 1

environment: NODES=3          connect-nodes, 1 to 64
             PORT_OFFSET=0    added to every port, 0 to 15000
             CLUSTER_DIR      folder for everything; .cluster of this repository
             PROFILE=release  which build of the programs
USAGE
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dir=${CLUSTER_DIR:-$root/.cluster}
case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
bin=${CARGO_TARGET_DIR:-$root/target}/${PROFILE:-release}
run=$dir/run logs=$dir/logs data=$dir/data
socket=$run/mariadb.sock password_file=$dir/secrets/db-password
ready_seconds=60 cores=$(nproc)
other_ports="choose others with PORT_OFFSET, for example: make cluster PORT_OFFSET=100"
# Servers live where only root looks by itself.
PATH=$PATH:/usr/sbin:/sbin
# Nothing here is for other users of the machine.
umask 077

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
fail() {
    warn "cluster: $*"
    exit 1
}

# shellcheck source=scripts/cluster/ports.sh
. "$root/scripts/cluster/ports.sh"
# shellcheck source=scripts/cluster/processes.sh
. "$root/scripts/cluster/processes.sh"
# shellcheck source=scripts/cluster/stores.sh
. "$root/scripts/cluster/stores.sh"

# nodes, offset and the servers' ports: as they are while anything runs, else as asked for.
settle() {
    local wanted=${NODES:-3} shift=${PORT_OFFSET:-0}
    is_number "$wanted" 1 64 || fail "NODES=$wanted: it takes 1 to 64"
    is_number "$shift" 0 15000 || fail "PORT_OFFSET=$shift: it takes 0 to 15000"
    if is_any_running && recall; then
        [ -z "${PORT_OFFSET:-}" ] || [ "$shift" = "$offset" ] ||
            fail "the cluster runs with PORT_OFFSET=$offset; stop it first to move it to $shift"
        ((nodes >= wanted)) || nodes=$wanted
        say "The cluster runs already; starting what is missing."
    else
        nodes=$wanted offset=$shift
        choose etcd_port etcd 2379 1
        choose mariadb_port MariaDB 3306
        choose redis_port Redis 6379
    fi
    check_ports
    printf '%s\n' "nodes=$nodes" "offset=$offset" "etcd_port=$etcd_port" "mariadb_port=$mariadb_port" \
        "redis_port=$redis_port" >"$dir/settings"
}

is_number() { [[ $1 =~ ^[0-9]{1,5}$ ]] && ((10#$1 >= $2 && 10#$1 <= $3)); }

# Reads what settle wrote; fails when it never did.
recall() {
    # shellcheck source=/dev/null
    [ -f "$dir/settings" ] && . "$dir/settings"
}

start() {
    prepare
    settle
    local name missing=() server
    while read -r name _; do
        is_running "$name" || missing+=("$name")
    done < <(table)
    for server in etcd mariadb redis; do
        is_running "$server" || "start_$server"
    done
    wait_ready etcd mariadb redis
    create_database
    migrate
    # All at once: each takes its ports before the others' connections could sit on them.
    for name in "${missing[@]}"; do
        case $name in etcd | mariadb | redis) ;; *) start_service "$name" ;; esac
    done
    # shellcheck disable=SC2046 # names
    wait_ready $(services | awk '{ print $1 }')
    started=()
    if [ ${#missing[@]} -eq 0 ]; then say "Nothing was missing."; else say "Started: ${missing[*]}"; fi
    guide
}

start_node() {
    local name="connect-node-${1:-}"
    prepare
    if ! is_any_running || ! recall; then fail "no cluster runs; start one with make cluster"; fi
    is_number "${1:-}" 1 "$nodes" || fail "start-node takes the number of a node of this cluster, 1 to $nodes"
    is_running "$name" && fail "$name runs already (pid $(pid_of "$name"))"
    local port
    for port in $(port_of "$name") $(http_of "$name") $(metrics_of "$name"); do
        is_free "$port" || fail "port $port for $name is taken by $(holder "$port")"
    done
    start_service "$name"
    wait_ready "$name"
    started=()
    say "$name runs again: http://127.0.0.1:$(http_of "$name")/"
}

# The folder, the programs, and nobody else at work here.
prepare() {
    mkdir -p "$run" "$logs" "$data" "$dir/secrets" 2>/dev/null || true
    [ -w "$run" ] || fail "cannot write to $dir"
    # The kernel's limit for the address of a socket is 108 bytes.
    ((${#socket} < 100)) || fail "the path $dir is too long for a socket; set CLUSTER_DIR to a shorter one"
    lock
    trap 'undo $?' EXIT
    trap 'exit 130' INT TERM
    local program
    for program in controller-manager push-manager connect-node; do
        [ -x "$bin/$program" ] || fail "$bin/$program is not built; use make cluster"
    done
    "$root/scripts/packages.sh" servers
    # As many sessions as this user may have.
    ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
}

lock() {
    exec 9>"$dir/lock"
    flock -w 3 9 || fail "another cluster.sh works in $dir"
}

# What a start that failed had started does not stay.
undo() {
    trap - EXIT INT TERM
    if [ "$1" -ne 0 ] && [ ${#started[@]} -gt 0 ]; then
        warn "cluster: ending what was started: ${started[*]}"
        end_in_order "${started[@]}"
    fi
    exit "$1"
}

# The environment of programs of ours. What the user's shell says about stores is not meant for these.
ours() {
    command=(env -u DATABASE_URL -u REDIS_URL -u ETCD_URL -u DB_PASSWORD -u REDIS_PASSWORD -u REDIS_PASSWORD_FILE
        -u ETCD_PASSWORD -u ETCD_PASSWORD_FILE -u CONTROLLER_ADDRESS -u PUBLIC_WS_URL
        DB_HOST=127.0.0.1 DB_PORT="$mariadb_port" DB_USER=roomcast DB_PASSWORD_FILE="$password_file" DB_NAME=pubsub
        REDIS_ADDR="127.0.0.1:$redis_port" ETCD_ENDPOINTS="127.0.0.1:$etcd_port" "$@")
}

migrate() {
    local command
    ours "$bin/controller-manager" --migrate
    "${command[@]}" >>"$logs/migrate.log" 2>&1 || {
        warn "controller-manager --migrate failed; the end of $logs/migrate.log:"
        tail -n 5 "$logs/migrate.log" >&2
        fail "the database has no tables"
    }
}

start_service() {
    local name=$1 program grpc http metrics command
    read -r _ program grpc http metrics < <(table | awk -v name="$name" '$1 == name')
    case $program in
        controller-manager) ours CONTROLLER_ID="$name" GRPC_PORT="$grpc" METRICS_PORT="$metrics" ;;
        push-manager) ours MANAGER_ID="$name" GRPC_PORT="$grpc" METRICS_PORT="$metrics" ;;
        connect-node) ours NODE_ID="$name" GRPC_PORT="$grpc" HTTP_PORT="$http" METRICS_PORT="$metrics" ;;
    esac
    command+=("$bin/$program")
    # The nodes share the cores of one machine.
    [ "$program" != connect-node ] || command+=(--set "connect_node.shards=$(((cores + nodes - 1) / nodes))")
    launch "$name" "${command[@]}"
}

stop() {
    if [ ! -d "$run" ] || ! is_any_running; then
        say "No cluster runs in $dir."
        return
    fi
    lock
    recall || fail "$dir/settings is missing"
    # All that were ever started here, also when fewer nodes were asked for since.
    local names=() file
    for file in "$run"/*.pid; do
        file=${file##*/}
        names+=("${file%.pid}")
    done
    end_in_order "${names[@]}"
    say "Stopped. Data and logs stay in $dir; remove that folder to begin anew."
}

status() {
    recall || fail "no cluster was started in $dir"
    local name grpc http metrics pid state sessions is_whole=yes
    printf '%-16s %-10s %8s %6s %6s %8s %9s\n' process state pid port http metrics sessions
    while read -r name _ grpc http metrics; do
        pid=- state=down sessions=-
        if is_running "$name"; then
            pid=$(pid_of "$name")
            state="not ready"
            is_ready "$name" && state=ready
            [ "$http" = - ] || sessions=$(http "$http" /stats | sed -n 's/.*"connections": *\([0-9]*\).*/\1/p')
        fi
        [ "$state" = ready ] || is_whole=no
        printf '%-16s %-10s %8s %6s %6s %8s %9s\n' "$name" "$state" "$pid" "$grpc" "$http" "$metrics" "${sessions:--}"
    done < <(table)
    [ "$is_whole" = yes ]
}

guide() {
    local name program grpc http metrics servers="" first pages push="127.0.0.1:$((50053 + offset))"
    local controller="127.0.0.1:$((50051 + offset))" here=$dir client=$bin/biz-client
    # Paths as one would write them here.
    here=${here#"$PWD/"} client=${client#"$PWD/"}
    say ""
    say "Roomcast runs as separate processes. Data, logs and pid files are in $here."
    say ""
    while read -r name program grpc http metrics; do
        case $program in
            connect-node) say "  $(printf %-16s "$name") page http://127.0.0.1:$http/  gRPC 127.0.0.1:$grpc  metrics http://127.0.0.1:$metrics/metrics" ;;
            *) say "  $(printf %-16s "$name") gRPC 127.0.0.1:$grpc  metrics http://127.0.0.1:$metrics/metrics" ;;
        esac
    done < <(services)
    say "  etcd             127.0.0.1:$etcd_port"
    say "  MariaDB          127.0.0.1:$mariadb_port, user roomcast, password in $here/secrets/db-password"
    say "  Redis            127.0.0.1:$redis_port"
    first=$((8080 + offset))
    pages="http://127.0.0.1:$first/?connect=1"
    ((nodes < 2)) || pages+=$'\n'"                    http://127.0.0.1:$((first + 1))/?user=user-002&name=Bob&connect=1"
    ((nodes < 3)) || pages+=$'\n'"                    http://127.0.0.1:$((first + 2))/?user=user-003&name=Charlie&connect=1"
    [ "$offset" = 0 ] || servers=" --push-manager $push --controller $controller"
    cat <<GUIDE

A room begins with its first member, so begin with a page:

Open in browsers    $pages
or in a terminal    $client listen room room-001 --user user-001 --url ws://127.0.0.1:$first/ws
Push                $client$servers push room room-001 "Hello everyone!"
                    $client$servers push user user-001 "Hello Alice!"
                    $client$servers push broadcast "System announcement" --type SYSTEM
with curl           curl http://$push/v1/push/room/room-001 -d '{"content":{"type":"TEXT","data":"Hello"}}'
with grpcurl, a tool from https://github.com/fullstorydev/grpcurl
                    grpcurl -plaintext $controller pubsub.ControllerService/GetRoomStats
                    grpcurl -plaintext -d '{"room_id":"room-001"}' $controller pubsub.ControllerService/GetRoomInfo
Who is where        $client$servers room show room-001
                    curl http://127.0.0.1:$first/stats
In the stores       mariadb --socket=$here/run/mariadb.sock pubsub
                    redis-cli -p $redis_port
                    etcdctl --endpoints=127.0.0.1:$etcd_port get --prefix /services/
Kill a node         kill -9 \$(cat $here/run/connect-node-1.pid)
and bring it back   scripts/cluster.sh start-node 1
Read a log          tail -f $here/logs/connect-node-1.log

make cluster-status     make cluster-stop
GUIDE
}

case ${1:-} in
    start | stop | status) "$1" ;;
    start-node) start_node "${2:-}" ;;
    *)
        usage >&2
        exit 2
        ;;
esac
