# Starts the managed database, first making its data directory on an empty volume. Killed at any
# point, the next start goes on: a directory counts only once it has been renamed into place, and
# the accounts are stated anew at each start.
# Needs of the image: sh, cat, mkdir, mv, rm, and mysqld or mariadbd with the SQL files it is shipped
# with; for an upgrade of MariaDB's system tables also sleep and mariadb-upgrade.
set -eu
umask 077

data=$DATABASE_VOLUME/data
unfinished=$DATABASE_VOLUME/data.unfinished
made_by=$data/authservice-version
run=$DATABASE_RUN
written_by_server=$run/files
newline='
'

refuse() {
    printf '%s\n' "$1" >&2
    exit 1
}

# A shell that is process 1 ignores SIGTERM unless it has a trap, and runs a trap only after a
# foreground command ends: so what takes long runs in the background and is waited for.
child=
trap '[ -z "$child" ] || kill "$child" || :; exit 143' TERM INT
await() {
    "$@" &
    child=$!
    status=0
    wait "$child" || status=$?
    child=
    return "$status"
}

if command -v mariadbd >/dev/null; then
    engine=MariaDB server=mariadbd other=MySQL other_file=mysql.ibd
elif command -v mysqld >/dev/null; then
    engine=MySQL server=mysqld other=MariaDB other_file=aria_log_control
else
    refuse 'the image holds neither mariadbd nor mysqld: set database.managed.image to a MySQL or MariaDB image'
fi
version=$("$server" --no-defaults --version)

if [ -e "$data/$other_file" ]; then
    refuse "the volume was made by $other, which $engine cannot read: set database.managed.image to a $other image again"
fi
if [ -e "$DATABASE_VOLUME/ibdata1" ]; then
    refuse "the volume holds a database that another start command made at its root: move its files into the folder data of the volume"
fi

# Files of options in the image are not read: they differ between images and bind to 127.0.0.1 in some.
set -- --no-defaults --datadir="$data" --tmpdir=/tmp \
    --socket="$run/mysqld.sock" --pid-file="$run/mysqld.pid" --secure-file-priv="$written_by_server" \
    --skip-name-resolve --host-cache-size=0 --max-connect-errors=1000000 --max-connections=500 \
    --character-set-server=utf8mb4 --skip-log-bin --performance-schema=OFF \
    --innodb-buffer-pool-size=128M --local-infile=OFF
# While the data directory is made nothing needs to be durable: it counts only after a clean end.
careless=--innodb-flush-log-at-trx-commit=0
[ "$engine" = MariaDB ] || set -- "$@" --mysqlx=OFF

initialise_mariadb() {
    for prefix in /usr/share/mariadb/mariadb /usr/share/mysql/mariadb /usr/share/mysql/mysql; do
        [ ! -r "${prefix}_system_tables.sql" ] || break
    done
    set -- "${prefix}_system_tables.sql" "${prefix}_performance_tables.sql" \
        "${prefix}_system_tables_data.sql" "${prefix%/*}/fill_help_tables.sql" \
        "${prefix%/*}/maria_add_gis_sp_bootstrap.sql" "${prefix}_sys_schema.sql"
    for file in "$@"; do
        [ -r "$file" ] || refuse "the image lacks $file, which mariadb-install-db would read too: use an image of a complete MariaDB server"
    done
    # With the name of a user in @auth_root_socket there is one root, whose password matches nothing,
    # instead of four that need none.
    {
        printf '%s\n' 'CREATE DATABASE mysql;' 'USE mysql;' "SET @auth_root_socket = 'root';"
        cat "$@"
    } | "$server" --no-defaults --bootstrap --datadir="$unfinished" --tmpdir=/tmp "$careless" \
        --log-warnings=0 --max-allowed-packet=8M --net-buffer-length=16K >/dev/null
}

initialise_mysql() {
    "$server" --no-defaults --initialize-insecure --datadir="$unfinished" --tmpdir=/tmp "$careless"
}

if [ ! -d "$data" ]; then
    # A pod deleted by force may still be at work beside its successor: whoever began last goes on.
    read -r start </proc/sys/kernel/random/uuid
    printf '%s\n' "$start" >"$unfinished.by"
    rm -rf "$unfinished"
    mkdir "$unfinished"
    case $engine in
        MariaDB) await initialise_mariadb ;;
        MySQL) await initialise_mysql ;;
    esac
    [ "$start" = "$(cat "$unfinished.by")" ] || refuse 'another start of this database began meanwhile, and goes on'
    printf '%s\n' "$version" >"$unfinished/authservice-version"
    ! command -v sync >/dev/null || sync
    [ -d "$data" ] || mv "$unfinished" "$data"
    rm -rf "$unfinished" "$unfinished.by"
fi

# A container that restarts within its pod finds the files of its predecessor.
rm -rf "$run/mysqld.sock" "$run/mysqld.sock.lock" "$run/mysqld.pid" "$written_by_server"
mkdir "$written_by_server"

# MySQL upgrades its system tables by itself. MariaDB leaves that to a program that needs a running
# server: here one on a socket of its own, where neither clients nor probes find it.
upgrade_mariadb() {
    rm -f "$run/upgrade.sock"
    "$server" "$@" --socket="$run/upgrade.sock" --skip-networking --skip-grant-tables &
    temporary=$!
    while [ ! -S "$run/upgrade.sock" ]; do
        kill -0 "$temporary" || return 1
        sleep 0.2
    done
    upgraded=0
    mariadb-upgrade --no-defaults --socket="$run/upgrade.sock" --user=root --upgrade-system-tables || upgraded=1
    kill "$temporary" && wait "$temporary" && return "$upgraded"
}
if [ "$engine" = MariaDB ] && [ "$version" != "$(cat "$made_by" 2>/dev/null || :)" ]; then
    if command -v mariadb-upgrade >/dev/null && await upgrade_mariadb "$@"; then
        printf '%s\n' "$version" >"$made_by.unfinished"
        mv "$made_by.unfinished" "$made_by"
    else
        # The data are whole and the server reads older system tables: serving them is worth more.
        printf '%s\n' 'the system tables were not upgraded; the next start tries again' >&2
    fi
fi

# One trailing newline of the file is not part of the password.
password=$(cat "$DATABASE_ROOT_PASSWORD_FILE" && printf .)
password=${password%.}
password=${password%"$newline"}
[ -n "$password" ] || refuse "the file $DATABASE_ROOT_PASSWORD_FILE is empty"

# Init files are read line by line, so a newline inside the password is written as \n.
quoted=
while [ -n "$password" ]; do
    plain=${password%%[\\\'"$newline"]*}
    password=${password#"$plain"}
    quoted=$quoted$plain
    case $password in
        "$newline"*) quoted=$quoted'\n' ;;
        \\*) quoted=$quoted'\\' ;;
        \'*) quoted=$quoted"\\'" ;;
    esac
    password=${password#?}
done

# The last statement tells a probe without a client that the server executes queries.
{
    for host in % localhost; do
        printf '%s\n' \
            "CREATE USER IF NOT EXISTS 'root'@'$host' IDENTIFIED BY '$quoted';" \
            "ALTER USER 'root'@'$host' IDENTIFIED BY '$quoted';" \
            "GRANT ALL PRIVILEGES ON *.* TO 'root'@'$host' WITH GRANT OPTION;"
    done
    printf '%s\n' \
        "CREATE USER IF NOT EXISTS 'authservice_health'@'localhost';" \
        "SELECT 1 INTO OUTFILE '$written_by_server/accepts-queries';"
} >"$run/accounts.sql"

trap - TERM INT
exec "$server" "$@" --init-file="$run/accounts.sql"
