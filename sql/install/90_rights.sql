-- Nothing is PUBLIC's: roles get what grant_access or a plain GRANT gives them.
REVOKE ALL ON ALL TABLES IN SCHEMA order_timeout FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA order_timeout FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA order_timeout FROM PUBLIC;
