# Asks the managed database whether it executes queries ($1 = ready) or at least answers ($1 = alive),
# over its Unix socket: a TCP connection that is not a login would count as an error of this node.
set -u
run=$DATABASE_RUN

client=
for name in mariadb mysql; do
    ! command -v "$name" >/dev/null || { client=$name && break; }
done

# An image without a client: the server wrote the file by its last statement of this start.
if [ -z "$client" ]; then
    [ -e "$run/files/accepts-queries" ] && kill -0 "$(cat "$run/mysqld.pid")"
    exit
fi

answer=$("$client" --no-defaults --user=authservice_health --socket="$run/mysqld.sock" \
    --connect-timeout=5 --batch --skip-column-names --execute='SELECT 1' 2>&1) && exit 0
printf '%s\n' "$answer" >&2
# Errors from 1000 to 1999 are words of the server, such as "Too many connections": it lives.
case $1:$answer in
    alive:*'ERROR 1'[0-9][0-9][0-9]' '*) exit 0 ;;
esac
exit 1
