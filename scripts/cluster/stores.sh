# shellcheck shell=bash
# etcd, MariaDB and Redis of the cluster: private, on the loopback address, and as careful with data as they are by
# themselves. Read by ../cluster.sh.
# shellcheck disable=SC2154 # its variables

start_etcd() {
    local client="http://127.0.0.1:$etcd_port" peer="http://127.0.0.1:$((etcd_port + 1))"
    launch etcd etcd --data-dir="$data/etcd" --logger=zap --log-level=warn \
        --listen-client-urls="$client" --advertise-client-urls="$client" \
        --listen-peer-urls="$peer" --initial-advertise-peer-urls="$peer" --initial-cluster="default=$peer"
}

start_redis() {
    mkdir -p "$data/redis"
    launch redis redis-server --port "$redis_port" --bind 127.0.0.1 --dir "$data/redis" --appendonly yes --save ''
}

# The user who runs this is the administrator of the database, through the socket and without a password; nobody else is.
start_mariadb() {
    local me tables=$data/mariadb.tmp
    me=$(id -un)
    # A server that starts removes the temporary tables that it finds; in /tmp they would be those of others.
    mkdir -p "$tables"
    if [ ! -d "$data/mariadb" ]; then
        # Under another name until it is whole.
        rm -rf "$data/mariadb.new"
        mariadb-install-db --no-defaults --datadir="$data/mariadb.new" --tmpdir="$tables" --user="$me" --skip-test-db \
            --auth-root-authentication-method=socket --auth-root-socket-user="$me" >>"$logs/mariadb.log" 2>&1 ||
            fail_with_log mariadb "cannot create its data"
        mv "$data/mariadb.new" "$data/mariadb"
    fi
    launch mariadb mariadbd --no-defaults --datadir="$data/mariadb" --tmpdir="$tables" --user="$me" --socket="$socket" \
        --pid-file="$data/mariadb.pid" --port="$mariadb_port" --bind-address=127.0.0.1 --skip-name-resolve \
        --max-connections=200 --innodb-buffer-pool-size=64M --innodb-log-file-size=32M
}

# The database and the account of the controllers, with a password that only its file knows.
create_database() {
    local password
    if [ ! -s "$password_file" ]; then
        od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$password_file"
    fi
    password=$(<"$password_file")
    mariadb --no-defaults --socket="$socket" >>"$logs/mariadb.log" 2>&1 <<SQL || fail_with_log mariadb "refuses its account"
CREATE DATABASE IF NOT EXISTS pubsub CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS roomcast@127.0.0.1;
ALTER USER roomcast@127.0.0.1 IDENTIFIED BY '$password';
GRANT ALL ON pubsub.* TO roomcast@127.0.0.1;
SQL
}
