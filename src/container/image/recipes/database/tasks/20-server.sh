set -eu
conf=/etc/postgresql/15/main
# The one that came with the package has the build's locale.
[ ! -d "$conf" ] || pg_dropcluster 15 main
pg_createcluster --locale C.UTF-8 15 main
cat >>"$conf/postgresql.conf" <<'CONF'
listen_addresses = '*'
jit = off
ssl = off
shared_buffers = 32MB
max_connections = 40
dynamic_shared_memory_type = mmap
CONF
echo 'host all all all scram-sha-256' >>"$conf/pg_hba.conf"
# The compiler of queries is half of what there is to install, and off.
rm -f /usr/lib/postgresql/15/lib/llvmjit.so /usr/lib/*/libLLVM-*.so* /usr/lib/*/libz3.so*
rm -rf /usr/lib/postgresql/15/lib/bitcode /usr/lib/llvm-*
