# shellcheck shell=bash
# Starts, finds and ends processes; a pid counts only while it is still the process that was started. Read by
# ../cluster.sh.
# shellcheck disable=SC2154 # its variables

# What this call started, in order: ended again when it fails.
started=()

# When a process began, in ticks since the machine did: with the pid it names one process. Fails for one that is gone
# or waits only to be buried.
birth() {
    local stat
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    # The name before may hold spaces and parentheses; then come the state (3rd field) … and the start (22nd).
    # shellcheck disable=SC2086 # fields
    set -- ${stat##*) }
    case $1 in Z | X) return 1 ;; esac
    echo "${20}"
}

pid_of() { cat "$run/$1.pid" 2>/dev/null; }

is_running() {
    local pid now
    pid=$(pid_of "$1") && now=$(birth "$pid") && [ "$now" = "$(cat "$run/$1.birth" 2>/dev/null)" ]
}

is_any_running() {
    local file
    for file in "$run"/*.pid; do
        file=${file##*/}
        is_running "${file%.pid}" && return 0
    done
    return 1
}

# Starts a program apart from this terminal. $1 name, then the command.
launch() {
    local name=$1 pid
    shift
    # The lock of this script is nothing that a server should hold.
    setsid "$@" >>"$logs/$name.log" 2>&1 </dev/null 9>&- &
    pid=$!
    birth "$pid" >"$run/$name.birth" || true
    echo "$pid" >"$run/$name.pid"
    started+=("$name")
}

# Whether it answers that it is ready. Answers are read to their end: a reader that leaves earlier, such as grep -q, would
# at times break off the writer, which fails the pipe.
is_ready() {
    case $1 in
        etcd) [[ $(http "$etcd_port" /health) == *'"health":"true"'* ]] ;;
        mariadb) timeout 3 mariadb-admin --no-defaults --socket="$socket" --connect-timeout=2 ping >/dev/null 2>&1 ;;
        redis) [ "$(timeout 3 redis-cli -p "$redis_port" ping 2>/dev/null)" = PONG ] ;;
        connect-node-*) [[ $(http "$(http_of "$1")" /ready) == HTTP/1.?\ 200* ]] ;;
        *) [[ $(http "$(metrics_of "$1")" /ready) == HTTP/1.?\ 200* ]] ;;
    esac
}

# An answer with its head; nothing when none comes within 3 s. Bash speaks TCP itself, so curl need not be there.
http() {
    # shellcheck disable=SC2016 # the inner shell's own arguments
    timeout 3 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && printf "GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n" "$1" >&3 &&
        cat <&3' "$1" "$2" 2>/dev/null
}

# Waits until all of these are ready; one that ends or takes too long fails with the end of its log.
wait_ready() {
    local name other until=$((SECONDS + ready_seconds))
    for name in "$@"; do
        until is_ready "$name"; do
            for other in "$@"; do
                is_running "$other" || fail_with_log "$other" "ended while it started"
            done
            ((SECONDS < until)) || fail_with_log "$name" "is not ready after $ready_seconds s"
            sleep 0.1
        done
    done
}

fail_with_log() {
    warn "$1 $2; the end of $logs/$1.log:"
    tail -n 12 "$logs/$1.log" >&2
    if [[ $(tail -n 12 "$logs/$1.log") == *'cannot listen on'* ]]; then
        warn "An outgoing connection may sit on the port. To keep them away: sysctl -w net.ipv4.ip_local_reserved_ports=$(reserved)"
    fi
    fail "$1 $2"
}

# The ports of ours, as the kernel takes them.
reserved() { services | awk '{ print $3 }' | sort -n | paste -sd,; }

# Ends processes together: asks, waits, and kills those that do not go. $1 seconds to wait, then names.
end() {
    local seconds=$1 name left=()
    shift
    for name in "$@"; do
        is_running "$name" || continue
        # One that was frozen must go on to hear it.
        kill -TERM "$(pid_of "$name")" 2>/dev/null || continue
        kill -CONT "$(pid_of "$name")" 2>/dev/null || true
        left+=("$name")
    done
    local until=$((SECONDS + seconds))
    for name in "${left[@]}"; do
        while is_running "$name"; do
            if ((SECONDS >= until)); then
                warn "$name did not end within $seconds s and is killed"
                kill -KILL "$(pid_of "$name")" 2>/dev/null || true
                until=$((SECONDS + 10))
            fi
            sleep 0.05
        done
    done
    for name in "$@"; do
        rm -f "$run/$name.pid" "$run/$name.birth"
    done
}

# Ends these processes, whatever depends on others first.
end_in_order() {
    local kind
    for kind in 'connect-node-' 'push-manager-' 'controller-'; do
        # shellcheck disable=SC2046 # names
        end 60 $(printf '%s\n' "$@" | grep "^$kind")
    done
    # shellcheck disable=SC2046 # names
    end 60 $(printf '%s\n' "$@" | grep -E '^(etcd|mariadb|redis)$')
}
