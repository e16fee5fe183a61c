-- The role of Envoy, as docs/postgres.md tells operators to make it.
CREATE ROLE envoy LOGIN PASSWORD 's3cret';
ALTER ROLE envoy SET statement_timeout = '400ms';
GRANT USAGE ON SCHEMA idemgate TO envoy;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA idemgate TO envoy;
