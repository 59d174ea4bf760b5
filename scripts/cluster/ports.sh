# shellcheck shell=bash
# Which ports the processes take, and who holds one already. Read by ../cluster.sh.
# shellcheck disable=SC2154 # its variables

# One line for each process: name, program, port (gRPC, or the server's own), HTTP port, metrics port; - for none.
table() {
    echo "etcd etcd $etcd_port - -"
    echo "mariadb mariadbd $mariadb_port - -"
    echo "redis redis-server $redis_port - -"
    services
}

services() {
    row controller-1 controller-manager 50051 - 9090
    row controller-2 controller-manager 50061 - 9100
    row push-manager-1 push-manager 50053 - 9094
    row push-manager-2 push-manager 50063 - 9104
    local n
    for ((n = 1; n <= nodes; n++)); do
        case $n in
            1) row connect-node-1 connect-node 50052 8080 9091 ;;
            2) row connect-node-2 connect-node 50055 8081 9092 ;;
            3) row connect-node-3 connect-node 50056 8082 9093 ;;
            *) row "connect-node-$n" connect-node $((50070 + n)) $((8079 + n)) $((9110 + n)) ;;
        esac
    done
}

row() {
    local http=-
    [ "$4" = - ] || http=$(($4 + offset))
    echo "$1 $2 $(($3 + offset)) $http $(($5 + offset))"
}

# name -> a column of the table.
port_of() { table | awk -v name="$1" '$1 == name { print $3 }'; }
http_of() { table | awk -v name="$1" '$1 == name { print $4 }'; }
metrics_of() { table | awk -v name="$1" '$1 == name { print $5 }'; }

# Inode of the socket that listens where 127.0.0.1:$1 would; nothing when the port is free.
listener() {
    local tables=(/proc/net/tcp)
    [ -r /proc/net/tcp6 ] && tables+=(/proc/net/tcp6)
    awk -v port="$(printf '%04X' "$1")" '
        $4 == "0A" {
            split($2, local, ":")
            if (local[2] == port && local[1] ~ /^(00000000|0100007F|0{32}|0{16}FFFF00000100007F)$/) { print $10; exit }
        }' "${tables[@]}"
}

is_free() { [ -z "$(listener "$1")" ]; }

# Who listens on a port, in words.
holder() {
    local socket pid
    socket=$(find /proc/[0-9]*/fd -maxdepth 1 -lname "socket:\[$(listener "$1")\]" -print -quit 2>/dev/null)
    pid=${socket#/proc/}
    pid=${pid%%/*}
    if [ -n "$pid" ]; then
        echo "$(cat "/proc/$pid/comm" 2>/dev/null) (pid $pid)"
    else
        echo "another user's process"
    fi
}

# Chooses the port of a server: the usual one, or 10000 above when something else listens there. $1 the variable, $2
# name, $3 port, then more ports that it takes, relative to the first.
choose() {
    local variable=$1 name=$2 usual=$(($3 + offset)) port extra taken
    shift 3
    for port in $usual $((usual + 10000)); do
        taken=""
        for extra in 0 "$@"; do
            is_free $((port + extra)) || taken=$((port + extra))
        done
        if [ -z "$taken" ]; then
            [ "$port" = "$usual" ] || say "Port $usual is not free: $name of this cluster takes $port; the other is left alone."
            printf -v "$variable" %s "$port"
            return
        fi
    done
    fail "port $taken for $name is taken by $(holder "$taken"), and so is the usual one; $other_ports"
}

# Ends with a line for each port that a process of ours would need and something else holds.
check_ports() {
    local name ports port is_taken=""
    while read -r name _ ports; do
        is_running "$name" && continue
        for port in $ports; do
            [ "$port" = - ] || is_free "$port" && continue
            warn "port $port for $name is taken by $(holder "$port")"
            is_taken=yes
        done
    done < <(table)
    [ -z "$is_taken" ] || fail "nothing was started; stop what holds the ports, or $other_ports"
}
