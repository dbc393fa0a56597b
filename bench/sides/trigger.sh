# shellcheck shell=bash disable=SC2034,SC2154
# A trigger of one's own in place of the link.

trigger_title='plpgsql trigger that calls create_order'
trigger_leaves='rows that are changed, cancelled, deleted or do not fit the order; currencies that have no cents'

trigger_setup() {
	query -f - <<-'SQL'
		CREATE FUNCTION bench.create_order() RETURNS trigger
		LANGUAGE plpgsql AS $$
		BEGIN
			IF NEW.status = 'new' THEN
				PERFORM order_timeout.create_order(order_id => NEW.id::text, amount => (NEW.total * 100)::bigint,
					currency => NEW.currency, expires_at => NEW.pay_until);
			END IF;
			RETURN NULL;
		END $$;
	SQL
}

trigger_load_before() {
	query -c 'CREATE TRIGGER create_order AFTER INSERT ON bench.shop FOR EACH ROW EXECUTE FUNCTION bench.create_order()'
}

trigger_load() { load_rows; }
