-- Idemgate's records in PostgreSQL 13 or newer: one table, and the rules by which it changes as functions.
--
-- Apply it once, as the role that is to own the schema; then let Envoy's role call the functions, and nothing else:
--
--     psql -v ON_ERROR_STOP=1 -f schema.sql
--     CREATE ROLE envoy LOGIN PASSWORD '...';
--     GRANT USAGE ON SCHEMA idemgate TO envoy;
--     GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA idemgate TO envoy;
--
-- Another schema, as shadow mode needs one: sed s/idemgate/idemgate_shadow/ schema.sql | psql -v ON_ERROR_STOP=1 ...
--
-- To upgrade, apply the file of the newer release the same way, before the first Envoy that needs it, and grant EXECUTE
-- again. Records stay, and Envoys of both releases may run meanwhile: the file adds, and replaces the bodies of functions
-- in one transaction. What a function takes or gives never changes; one that differs has the next number in its name, and
-- the one before stays as long as a supported release calls it. To apply the same file again changes nothing.

BEGIN;
CREATE SCHEMA IF NOT EXISTS idemgate;
-- Named last, for what is not named is searched first.
SET LOCAL search_path = idemgate, pg_temp;

-- One row per operation, until it expires.
CREATE TABLE IF NOT EXISTS records (
    operation   bytea       PRIMARY KEY CHECK (octet_length(operation) = 32),
    -- In flight, of unknown outcome, completed, completed without its response (not kept), or released: a mark that makes
    -- a late claim of who gave the operation back void.
    state       "char"      NOT NULL CHECK (state IN ('i', 'u', 'c', 'n', 'r')),
    owner       uuid        NOT NULL,
    fingerprint bytea       NOT NULL CHECK (octet_length(fingerprint) = 32),
    lease_until timestamptz NOT NULL,
    expires     timestamptz NOT NULL,
    -- All of the above again with checksums, and the response: only Idemgate reads it. There is none behind a mark.
    sealed      bytea       NOT NULL,
    CHECK ((state = 'r') = (octet_length(sealed) = 0))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05);

-- Responses are compressed already, or the CPU of the database is dearer than its disk.
ALTER TABLE records ALTER COLUMN sealed SET STORAGE EXTERNAL;

-- What is to be swept, and what operators look for.
CREATE INDEX IF NOT EXISTS records_expires ON records (expires);
CREATE INDEX IF NOT EXISTS records_unfinished ON records (lease_until) WHERE state IN ('i', 'u');

-- Times are `clock_timestamp()` in all functions: `now()` is when the transaction began, and a claim that has waited for
-- another one's lock would judge by the past. An expired row counts as none in all of them: sweeping is about room alone.
-- Each call is one transaction on one row, so that two of them never wait for each other in a circle.
--
-- All run as the owner of the schema, which `search_path` keeps to its own objects.

-- May this owner run the operation? One row, granted or with what stands against it; NULLs if others were faster three
-- times, which is to be asked again.
CREATE OR REPLACE FUNCTION claim_v1(
    op bytea, me uuid, fp bytea, lease bigint, keep bigint, retry boolean, seal bytea,
    OUT granted boolean, OUT state "char", OUT owner uuid, OUT fingerprint bytea,
    OUT lease_left bigint, OUT lives bigint, OUT sealed bytea
) LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    found_row records;
    t timestamptz;
BEGIN
    FOR attempt IN 1..3 LOOP
        -- First without a lock: a replay writes nothing, and waits for no disk.
        t := clock_timestamp();
        SELECT * INTO found_row FROM records b
        WHERE b.operation = op AND NOT (
            b.expires <= t
            -- Asked again by the owner whose first reply was lost.
            OR (b.state = 'i' AND b.owner = me)
            -- Given back by another owner.
            OR (b.state = 'r' AND b.owner <> me)
            -- Not by a late copy of the claim that left it so.
            OR (retry AND b.state IN ('i', 'u') AND b.lease_until <= t AND b.owner <> me AND b.fingerprint = fp)
        );
        IF FOUND THEN
            granted := false;
            state := found_row.state;
            owner := found_row.owner;
            fingerprint := found_row.fingerprint;
            lease_left := greatest(0, ceil(extract(epoch FROM found_row.lease_until - t) * 1000));
            lives := greatest(0, floor(extract(epoch FROM found_row.expires - t) * 1000));
            sealed := found_row.sealed;
            RETURN;
        END IF;

        -- The same conditions, on the row as it is once it is locked.
        INSERT INTO records AS b (operation, state, owner, fingerprint, lease_until, expires, sealed)
        VALUES (op, 'i', me, fp, t + lease * interval '1 ms', t + keep * interval '1 ms', seal)
        ON CONFLICT (operation) DO UPDATE SET
            state = 'i', owner = me, fingerprint = fp, sealed = seal,
            lease_until = clock_timestamp() + lease * interval '1 ms',
            expires = clock_timestamp() + keep * interval '1 ms'
        WHERE b.expires <= clock_timestamp()
            OR (b.state = 'i' AND b.owner = me)
            OR (b.state = 'r' AND b.owner <> me)
            OR (retry AND b.state IN ('i', 'u') AND b.lease_until <= clock_timestamp() AND b.owner <> me
                AND b.fingerprint = fp);
        IF FOUND THEN
            granted := true;
            RETURN;
        END IF;
        -- Another was faster: the next look sees what it wrote, as each statement does that READ COMMITTED runs.
    END LOOP;
END $$;

-- The owner is alive: its lease starts anew. This need not reach the disk: a lost renewal is a lease that ends earlier.
CREATE OR REPLACE FUNCTION renew_v1(op bytea, me uuid, lease bigint, keep bigint)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE records b SET
        lease_until = clock_timestamp() + lease * interval '1 ms',
        expires = clock_timestamp() + keep * interval '1 ms'
    WHERE b.operation = op AND b.owner = me AND b.state = 'i' AND b.expires > clock_timestamp();
    RETURN FOUND;
END $$;

-- How an owner's execution ended. Where no row is left, because a failover has lost it, its owner is believed.
CREATE OR REPLACE FUNCTION settle_v1(op bytea, me uuid, fp bytea, ended "char", keep bigint, seal bytea)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO records AS b (operation, state, owner, fingerprint, lease_until, expires, sealed)
    VALUES (op, ended, me, fp, clock_timestamp(), clock_timestamp() + keep * interval '1 ms', seal)
    ON CONFLICT (operation) DO UPDATE SET
        state = ended, owner = me, fingerprint = fp, sealed = seal,
        lease_until = CASE WHEN b.expires > clock_timestamp() THEN b.lease_until ELSE clock_timestamp() END,
        -- An unknown outcome is kept until its lease is over, however short it is to be kept.
        expires = greatest(clock_timestamp() + keep * interval '1 ms',
                           CASE WHEN ended = 'u' AND b.expires > clock_timestamp() THEN b.lease_until END)
    WHERE (b.owner = me AND b.state = 'i') OR b.expires <= clock_timestamp();
    IF FOUND THEN
        RETURN true;
    END IF;
    -- Or it was said before, and the reply was lost. The row is locked by now.
    RETURN EXISTS (SELECT FROM records b WHERE b.operation = op AND b.owner = me AND b.state = ended);
END $$;

-- For operators: what is known of an operation, with up to `show` bytes of what is sealed. A row, or none.
CREATE OR REPLACE FUNCTION look_v1(
    op bytea, show integer,
    OUT state "char", OUT owner uuid, OUT fingerprint bytea, OUT lease_left bigint, OUT lives bigint,
    OUT bytes bigint, OUT beginning bytea
) RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT b.state, b.owner, b.fingerprint,
        (extract(epoch FROM b.lease_until - clock_timestamp()) * 1000)::bigint,
        (extract(epoch FROM b.expires - clock_timestamp()) * 1000)::bigint,
        octet_length(b.sealed)::bigint, substr(b.sealed, 1, show)
    FROM records b WHERE b.operation = op AND b.expires > clock_timestamp()
$$;

-- For operators: changes a record if it still is that execution's, in the state in which it was judged. An owner that has
-- come back to life since then keeps it, unless `even_alive`. `mark` is how long a mark is kept at least.
CREATE OR REPLACE FUNCTION amend_v1(
    op bytea, whose uuid, judged "char", becomes "char", even_alive boolean, mark bigint, seal bytea
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE records b SET
        state = becomes, sealed = seal,
        expires = CASE WHEN becomes = 'r' THEN greatest(b.expires, clock_timestamp() + mark * interval '1 ms')
                       ELSE b.expires END
    WHERE b.operation = op AND b.owner = whose AND b.expires > clock_timestamp()
        AND b.state = judged AND (even_alive OR b.state <> 'i' OR b.lease_until <= clock_timestamp());
    IF FOUND THEN
        RETURN true;
    END IF;
    -- Or it was done before, and the reply was lost.
    RETURN EXISTS (SELECT FROM records b WHERE b.operation = op AND b.owner = whose
        AND b.state = becomes AND b.sealed = seal AND b.expires > clock_timestamp());
END $$;

-- For operators: what has not come to its end, the oldest lease first.
CREATE OR REPLACE FUNCTION unfinished_v1(
    most integer,
    OUT operation bytea, OUT state "char", OUT owner uuid, OUT lease_left bigint, OUT lives bigint
) RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT b.operation, b.state, b.owner,
        (extract(epoch FROM b.lease_until - clock_timestamp()) * 1000)::bigint,
        (extract(epoch FROM b.expires - clock_timestamp()) * 1000)::bigint
    FROM records b WHERE b.state IN ('i', 'u') AND b.expires > clock_timestamp() ORDER BY b.lease_until LIMIT most
$$;

-- Removes up to `most` expired rows, and says how many those were; -1 while another sweeps. Neither waits for the other,
-- nor a claim for more than one row's removal. A removal that a crash undoes is done again.
CREATE OR REPLACE FUNCTION sweep_v1(most integer)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    swept integer;
BEGIN
    -- Of this table; the second number is Idemgate's own among the locks of the database.
    IF NOT pg_try_advisory_xact_lock('records'::regclass::oid::integer, 1768187245) THEN
        RETURN -1;
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
    WITH old AS (
        SELECT b.operation FROM records b WHERE b.expires <= clock_timestamp() ORDER BY b.expires LIMIT most
        FOR UPDATE SKIP LOCKED
    )
    DELETE FROM records b USING old WHERE b.operation = old.operation;
    GET DIAGNOSTICS swept = ROW_COUNT;
    RETURN swept;
END $$;

-- What a worker's check-up asks for: one row.
CREATE OR REPLACE FUNCTION about_v1(
    -- Of this file: it grows with each that adds something.
    OUT version integer,
    -- As 150018 for 15.18.
    OUT server integer,
    OUT is_standby boolean,
    -- The functions that who asks may not call, with commas between; empty if there are none.
    OUT forbidden text,
    -- Of who asks, in ms; 0 if there is none.
    OUT statement_timeout bigint,
    OUT isolation text,
    -- What a crash of the server can lose: see docs/postgres.md.
    OUT synchronous_commit text, OUT fsync boolean, OUT is_logged boolean,
    -- About how many rows there are, as autovacuum last saw it, and the bytes that they take with their indexes.
    OUT records bigint, OUT bytes bigint,
    -- How long ago, in ms, the oldest row expired that is still there; 0 if none did.
    OUT unswept bigint
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT 1, current_setting('server_version_num')::integer, pg_is_in_recovery(),
        (SELECT coalesce(string_agg(p.proname, ',' ORDER BY p.proname), '') FROM pg_proc p
         WHERE p.pronamespace = t.relnamespace AND NOT has_function_privilege(session_user, p.oid, 'EXECUTE')),
        (extract(epoch FROM current_setting('statement_timeout')::interval) * 1000)::bigint,
        current_setting('transaction_isolation'),
        current_setting('synchronous_commit'), current_setting('fsync')::boolean, t.relpersistence = 'p',
        greatest(t.reltuples, 0)::bigint, pg_total_relation_size(t.oid),
        (SELECT greatest(coalesce(extract(epoch FROM clock_timestamp() - min(b.expires)) * 1000, 0), 0)::bigint
         FROM records b)
    FROM pg_class t WHERE t.oid = 'records'::regclass
$$;

-- Functions may be called by everybody unless it is said.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA idemgate FROM PUBLIC;
COMMIT;
