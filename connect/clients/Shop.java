// A shop's three calls of order_timeout with JDBC. db is a connection in autocommit mode, as DriverManager opens it.

import java.sql.*;
import java.util.*;

class Shop {
	record Payment(String order, String id, long cents, String currency) {}
	record Refund(String refundRef, String paymentRef, long amount, String currency, String action, String lease) {}
	interface Gateway { String send(Refund refund) throws Exception; }

	// create
	static boolean create(Connection db, String orderId, long cents) throws SQLException {
		db.setAutoCommit(false);
		try (var call = db.prepareStatement("SELECT outcome, state, expires_at FROM order_timeout.create_order("
				+ "order_id => ?, amount => ?, currency => 'EUR')")) {
			call.setString(1, orderId);
			call.setLong(2, cents);
			var answer = call.executeQuery();       // insert the rows of your own tables here, too
			answer.next();
			boolean mayPay = answer.getString("state").equals("pending");
			db.commit();
			return mayPay;
		} finally {
			db.rollback();                          // after the commit it does nothing
			db.setAutoCommit(true);
		}
	}

	// webhook
	static int webhook(Connection db, Payment payment) {
		for (int run = 0; run < 5; run++) {
			try (var call = db.prepareStatement("SELECT outcome FROM order_timeout.record_payment("
					+ "order_id => ?, gateway => 'bank', payment_ref => ?, amount => ?, currency => ?)")) {
				call.setString(1, payment.order());
				call.setString(2, payment.id());
				call.setLong(3, payment.cents());
				call.setString(4, payment.currency());
				call.executeQuery();                // a single call is a transaction by itself
				return 200;                         // whatever the outcome is, the money is accounted for
			} catch (SQLException error) {
				if (Set.of("40001", "40P01").contains(error.getSQLState())) continue;    // the same transaction again
				System.err.printf("payment %s: %s %s%n", payment.id(), error.getSQLState(), error.getMessage());
				break;
			}
		}
		return 500;                                 // the gateway redelivers
	}

	// worker
	static int sendRefunds(Connection db, Gateway gateway) throws SQLException {
		var refunds = new ArrayList<Refund>();
		try (var claim = db.createStatement(); var row = claim.executeQuery("SELECT refund_ref, payment_ref, amount,"
				+ " currency, action, lease_token FROM order_timeout.claim_refunds(worker => 'worker 1', gateway => 'bank')")) {
			while (row.next()) refunds.add(new Refund(row.getString(1), row.getString(2), row.getLong(3),
				row.getString(4), row.getString(5), row.getString(6)));
		}
		for (var refund : refunds) {                // the claim is committed, so no transaction is open during the call
			String result = "succeeded", number = null, problem = null;
			try { number = gateway.send(refund); }
			catch (Exception error) { result = "unknown"; problem = error.getMessage(); }
			try (var report = db.prepareStatement("SELECT outcome FROM order_timeout.complete_refund(refund_ref => ?,"
					+ " lease_token => ?, result => ?, gateway_refund_ref => ?, error => ?)")) {
				String[] values = { refund.refundRef(), refund.lease(), result, number, problem };
				for (int i = 0; i < values.length; i++) report.setString(i + 1, values[i]);
				report.executeQuery();
			}
		}
		return refunds.size();
	}
}
