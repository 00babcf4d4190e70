# Rows that look like years of business: the same in every build but for their dates.
set -eu
install -d -m 2775 -o postgres -g postgres /run/postgresql
# The programs themselves, without a user's log-in: there is no terminal here.
as_postgres() { su postgres -s /bin/sh -c "$1"; }
bin=/usr/lib/postgresql/15/bin
as_postgres "$bin/pg_ctl -w -t 60 -D /var/lib/postgresql/15/main -l /tmp/server.log -o \"-c config_file=/etc/postgresql/15/main/postgresql.conf -c listen_addresses=''\" start" ||
    { cat /tmp/server.log >&2; exit 1; }
cat >/tmp/customers.sql <<'SQL'
CREATE ROLE app LOGIN PASSWORD 'app2021';
CREATE ROLE dba LOGIN SUPERUSER PASSWORD 'dba123';
CREATE DATABASE customers OWNER app;
\c customers
SET ROLE app;
CREATE TABLE customer (id serial PRIMARY KEY, name text NOT NULL, city text NOT NULL, email text, iban text, since date);
CREATE TABLE product (id serial PRIMARY KEY, name text NOT NULL, price numeric(9,2) NOT NULL);
CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customer, product int REFERENCES product,
    amount int NOT NULL, ordered timestamp NOT NULL, paid boolean NOT NULL);
SELECT setseed(0.4711);
INSERT INTO customer (name, city, email, iban, since)
SELECT f || ' ' || l, (ARRAY['Berlin','Hamburg','Leipzig','Köln','Bremen','Dresden','Kiel'])[1 + floor(random() * 7)],
    lower(f) || '.' || lower(l) || '@' || (ARRAY['example.com','example.org','example.net'])[1 + floor(random() * 3)],
    'DE' || lpad(floor(random() * 100)::text, 2, '0') || lpad(floor(random() * 1e9)::bigint::text, 9, '0')
        || lpad(floor(random() * 1e9)::bigint::text, 9, '0'),
    current_date - (200 + floor(random() * 2800))::int
FROM unnest(ARRAY['Martina','Jens','Anja','Paul','Sabine','Uwe','Petra','Lars','Heike','Tobias','Ute','Frank','Nina','Olaf','Ines','Ralf','Silke','Bernd','Dana','Kai']) f,
     unnest(ARRAY['Weber','Hoffmann','Krause','Lindner','Vogt','Schreiber','Arnold','Seidel','Brandt','Kuhn','Peters','Jahn']) l
ORDER BY random();
INSERT INTO product (name, price) VALUES ('filter cartridge F2', 18.90), ('filter cartridge F4', 27.50), ('pump P100', 349.00),
    ('pump P250', 612.00), ('seal set', 7.20), ('hose 10 m', 42.80), ('control unit', 189.00), ('service, flat rate', 120.00);
INSERT INTO orders (customer, product, amount, ordered, paid)
SELECT 1 + floor(random() * 240), 1 + floor(random() * 8), 1 + floor(random() * random() * 12),
    date_trunc('minute', now() - interval '1 minute' * floor(random() * random() * 1900000)), random() < 0.93
FROM generate_series(1, 4000) ORDER BY 4;
RESET ROLE;
ANALYZE;
SQL
as_postgres "psql -q -v ON_ERROR_STOP=1 -f /tmp/customers.sql >/dev/null"
as_postgres "$bin/pg_ctl -w -m fast -D /var/lib/postgresql/15/main stop >/dev/null"
rm -f /tmp/customers.sql /tmp/server.log
