#!/bin/bash
# A cluster on this machine, on loopback: a nats-server, an InfluxDB 1.x and two services, until Ctrl-C.
# Data are kept in var/cluster. PYTHON names the interpreter; PORT is the first service's, the others follow; WORKERS
# says how many processes each service has.
set -euo pipefail

python=${PYTHON:-.venv/bin/python}
port=${PORT:-8888}
folder=${FOLDER:-var/cluster}

for program in nats-server influxd; do
    command -v "$program" > /dev/null || {
        echo "error: $program is needed (on Debian: apt-get install nats-server influxdb)" >&2
        exit 1
    }
done
mkdir -p "$folder/nats"
folder=$(realpath "$folder")
cat > "$folder/influxdb.toml" <<TOML
reporting-disabled = true
bind-address = "127.0.0.1:$((port + 4))"
[meta]
  dir = "$folder/influxdb/meta"
[data]
  dir = "$folder/influxdb/data"
  wal-dir = "$folder/influxdb/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:$((port + 3))"
  log-enabled = false
[logging]
  level = "error"
TOML

# Everything that is started here ends with it, the services first: they write what they have.
servers=()
services=()
end() {
    trap - EXIT INT TERM
    for pid in "${services[@]}"; do kill -TERM "$pid" 2> /dev/null || true; done
    for pid in "${services[@]}"; do wait "$pid" || true; done
    for pid in "${servers[@]}"; do kill -TERM "$pid" 2> /dev/null || true; done
    for pid in "${servers[@]}"; do wait "$pid" || true; done
    exit 0
}
trap end EXIT INT TERM

# In sessions of their own, so that Ctrl-C does not end the servers before the services.
setsid nats-server --addr 127.0.0.1 --port "$((port + 2))" --jetstream --store_dir "$folder/nats" \
    > "$folder/nats.log" 2>&1 &
servers+=($!)
setsid influxd -config "$folder/influxdb.toml" > "$folder/influxdb.log" 2>&1 &
servers+=($!)
listens() { (: < "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }
for ((tries = 0; tries < 600; tries++)); do
    listens "$((port + 2))" && listens "$((port + 3))" && break
    sleep 0.1
done

for number in 0 1; do
    setsid "$python" -m service --port "$((port + number))" --data-dir "$folder/service-$number" \
        --workers "${WORKERS:-1}" --journal "nats://127.0.0.1:$((port + 2))" --store "influx://127.0.0.1:$((port + 3))/METRICS" &
    services+=($!)
done
echo "Two services on http://localhost:$port and http://localhost:$((port + 1)); Ctrl-C ends all"
wait -n "${services[@]}" "${servers[@]}"
