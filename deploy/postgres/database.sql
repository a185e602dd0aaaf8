-- The database and its owner, before the first `otpost migrate`. Run once, by psql, as a superuser:
--
--   OWNER_PASSWORD=… psql --no-psqlrc --set ON_ERROR_STOP=1 -f database.sql
--
-- The owner may create roles, because migrations make those of the workers. No worker connects as the owner.

\getenv password OWNER_PASSWORD
SET log_statement = 'none'; -- the server's log is no place for passwords
SET password_encryption = 'scram-sha-256';
CREATE ROLE otpost_owner LOGIN CREATEROLE PASSWORD :'password';
CREATE DATABASE otpost OWNER otpost_owner ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE otpost FROM PUBLIC;
