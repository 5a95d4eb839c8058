#!/bin/sh
# Make the secrets of deploy/compose.yml: one file each in deploy/secrets, and deploy/.env, which says where they are.
# Those that are there are kept. `make-secrets.sh FOLDER` puts them into another folder.
set -eu
umask 077

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
folder=${1:-$here/secrets}
mkdir -p "$folder"
folder=$(CDPATH='' cd -- "$folder" && pwd)

# 32 random bytes in hexadecimal: nothing in it needs quoting anywhere.
random() {
    od -A n -t x1 -N 32 /dev/urandom | tr -d ' \n'
}

for name in agents_token operator_token influxdb_token influxdb_password influxdb_reader_password grafana_password; do
    if [ ! -s "$folder/$name" ]; then
        random > "$folder/.new"
        # Containers read a secret as users of their own, so the file is open to all. Its folder is not.
        chmod 444 "$folder/.new"
        mv "$folder/.new" "$folder/$name"
        echo "made $folder/$name"
    fi
done

if ! grep -qs '^LOADLENS_SECRETS=' "$here/.env"; then
    echo "LOADLENS_SECRETS='$folder'" >> "$here/.env"
    echo "wrote LOADLENS_SECRETS to $here/.env"
fi
