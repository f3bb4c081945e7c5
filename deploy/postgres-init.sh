#!/bin/sh
# Makes Stockroom's role and database, once, in a new PostgreSQL: the image runs it. The role is no superuser, and owns
# nothing but its database.
set -eu
# A shell variable of psql quotes whatever is in the password.
psql --no-psqlrc --set ON_ERROR_STOP=1 --set password="$STOCKROOM_PASSWORD" --username postgres --dbname postgres << 'SQL'
CREATE ROLE stockroom LOGIN PASSWORD :'password';
CREATE DATABASE stockroom OWNER stockroom TEMPLATE template0 ENCODING UTF8;
SQL
