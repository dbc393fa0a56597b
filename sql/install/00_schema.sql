-- The schema is created here and not by `schema = ` in the control file: only so is it a member of the extension, goes
-- when the extension is dropped, and is refused when another role has made one of that name before: its owner
-- could replace what the functions call.
CREATE SCHEMA order_timeout;
COMMENT ON SCHEMA order_timeout IS
'Orders with a deadline, their payments and refunds. The tables are written through the functions only, policies apart.';
REVOKE ALL ON SCHEMA order_timeout FROM PUBLIC;
SET LOCAL search_path TO order_timeout, pg_temp;

