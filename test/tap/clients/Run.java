// The calls of a plan through JDBC. clients.pl describes the plan and the answers.

import java.io.*;
import java.math.BigDecimal;
import java.nio.file.*;
import java.sql.*;
import java.time.*;
import java.util.*;
import org.postgresql.util.*;

class Run {
	record Side(String name, String host, String port, String database, String shop, boolean pooled, boolean pipeline) {}
	record Step(String sql, String[] types, String[] values, String as, String keep, int times, boolean canPipeline) {}

	static void bind(PreparedStatement call, int i, String type, String text) throws SQLException {
		switch (type) {
		case "text" -> call.setString(i, text);
		case "bigint" -> { if (text == null) call.setNull(i, Types.BIGINT); else call.setLong(i, Long.parseLong(text)); }
		case "integer" -> { if (text == null) call.setNull(i, Types.INTEGER); else call.setInt(i, Integer.parseInt(text)); }
		case "numeric" -> call.setBigDecimal(i, text == null ? null : new BigDecimal(text));
		case "boolean" -> { if (text == null) call.setNull(i, Types.BOOLEAN); else call.setBoolean(i, text.equals("true")); }
		case "interval" -> call.setObject(i, text == null ? null : new PGInterval(text), Types.OTHER);
		case "timestamp with time zone" ->
			call.setObject(i, text == null ? null : OffsetDateTime.parse(text), Types.TIMESTAMP_WITH_TIMEZONE);
		case "jsonb" -> {
			var json = new PGobject();
			json.setType(type);
			json.setValue(text);
			call.setObject(i, json);
		}
		case "text[]" -> call.setArray(i, text == null ? null
			: call.getConnection().createArrayOf("text", text.replaceAll("[{}]", "").split(",")));
		default -> throw new IllegalArgumentException(type);
		}
	}

	static String shown(ResultSet row, int i) throws SQLException {
		Object value = row.getMetaData().getColumnTypeName(i).equals("timestamptz")
			? row.getObject(i, OffsetDateTime.class) : row.getObject(i);
		if (value instanceof Boolean yes) return yes ? "t" : "f";
		return value == null ? "\\N" : value.toString();
	}

	static String answer(ResultSet rows) throws SQLException {
		if (rows == null) return "";
		int columns = rows.getMetaData().getColumnCount();
		var lines = new ArrayList<String>();
		var line = new StringJoiner("\u001f");
		for (int i = 1; i <= columns; i++) line.add(rows.getMetaData().getColumnName(i));
		lines.add(line.toString());
		while (rows.next()) {
			line = new StringJoiner("\u001f");
			for (int i = 1; i <= columns; i++) line.add(shown(rows, i));
			lines.add(line.toString());
		}
		return String.join("\u001e", lines);
	}

	// Several statements in one string are sent together: the driver's pipeline. A batch loses the answers.
	static List<String> answers(Connection db, Step step, String[] values, boolean pipelined) throws SQLException {
		var all = new ArrayList<String>();
		int together = pipelined ? step.times : 1;
		String sql = String.join(";", Collections.nCopies(together, step.sql.replaceAll("\\$\\d+", "?")));
		while (all.size() < step.times) {
			try (var call = db.prepareStatement(sql)) {
				for (int i = 0; i < together * values.length; i++)
					bind(call, i + 1, step.types[i % values.length], values[i % values.length]);
				call.execute();
				for (int i = 0; i < together; i++) {
					all.add(answer(call.getResultSet()));
					call.getMoreResults();
				}
			} catch (SQLException error) {
				all.add("!" + error.getSQLState());
			}
		}
		return all;
	}

	static String inShop(Connection db, Connection look) throws SQLException {
		class Pays {
			int now(String order, String id, long cents) { return Shop.webhook(db, new Shop.Payment(order, id, cents, "EUR")); }
		}
		var pays = new Pays();
		// Another session sees what was committed before the call.
		Shop.Gateway bank = refund -> {
			try (var query = look.prepareStatement("SELECT 'g-' || state FROM order_timeout.refunds WHERE refund_ref = ?")) {
				query.setString(1, refund.refundRef());
				var row = query.executeQuery();
				row.next();
				return row.getString(1);
			}
		};
		Shop.Gateway lost = refund -> { throw new IOException("no answer"); };
		var said = new StringJoiner(" ");
		said.add(Shop.create(db, "C-1", 4200) ? "pending" : "closed");
		said.add("" + pays.now("C-1", "w-1", 4200));
		said.add("" + pays.now("C-1", "w-1", 4200));
		said.add("" + pays.now("C-1", "w-1", 4300));
		said.add("" + pays.now("C-2", "w-2", 100));
		said.add("" + pays.now("C-1", "w-3", 700));
		said.add("" + Shop.sendRefunds(db, bank));
		said.add("" + Shop.sendRefunds(db, bank));
		said.add("" + pays.now("C-1", "w-4", 800));
		said.add("" + Shop.sendRefunds(db, lost));
		said.add(Shop.create(db, "C-1", 4200) ? "pending" : "closed");
		return said.toString();
	}

	static Map<String, Connection> sessions(Side run, String database) throws SQLException {
		var sessions = new HashMap<String, Connection>();
		for (String user : new String[] { "shop", "postgres" })
			sessions.put(user, DriverManager.getConnection("jdbc:postgresql://" + run.host + ":" + run.port + "/" + database
				+ "?user=" + user + (run.pooled ? "&prepareThreshold=0" : "")));
		return sessions;
	}

	static void end(Map<String, Connection> sessions) throws SQLException {
		for (var session : sessions.values()) session.close();
	}

	// Java reads no JSON by itself, and a server is at hand.
	static ResultSet parsed(Connection db, String plan, String part, String columns) throws SQLException {
		var query = db.prepareStatement("SELECT * FROM jsonb_to_recordset(?::jsonb -> '" + part + "') AS r (" + columns + ")");
		query.setString(1, plan);
		return query.executeQuery();
	}

	public static void main(String[] args) throws Exception {
		String plan = Files.readString(Path.of(args[0]));
		var runs = new ArrayList<Side>();
		var steps = new ArrayList<Step>();
		try (var db = DriverManager.getConnection(args[2])) {
			var row = parsed(db, plan, "runs", "name text, host text, port text, database text, shop text, pooled boolean, pipeline boolean");
			while (row.next()) runs.add(new Side(row.getString(1), row.getString(2), row.getString(3), row.getString(4),
				row.getString(5), row.getBoolean(6), row.getBoolean(7)));
			row = parsed(db, plan, "steps", "sql text, types text[], \"values\" text[], \"as\" text, keep text, times int, can_pipeline boolean");
			while (row.next()) steps.add(new Step(row.getString(1), (String[]) row.getArray(2).getArray(),
				(String[]) row.getArray(3).getArray(), row.getString(4), row.getString(5), row.getInt(6), row.getBoolean(7)));
		}
		try (var out = Files.newBufferedWriter(Path.of(args[1]))) {
			for (var run : runs) play(run, steps, out);
		}
	}

	static void play(Side run, List<Step> steps, Writer out) throws Exception {
		var sessions = sessions(run, run.database);
		var kept = new HashMap<String, String>();
		for (int number = 0; number < steps.size(); number++) {
			var step = steps.get(number);
			String[] values = Arrays.stream(step.values).map(text -> kept.getOrDefault(text, text)).toArray(String[]::new);
			for (String said : answers(sessions.get(step.as), step, values, run.pipeline && step.canPipeline)) {
				out.write(run.name + "\t" + number + "\t" + said + "\n");
				String[] lines = said.split("\u001e");
				if (step.keep == null || lines.length < 2) continue;
				String[] names = lines[0].split("\u001f"), row = lines[1].split("\u001f", -1);
				for (int i = 0; i < names.length; i++) kept.putIfAbsent("{" + step.keep + "." + names[i] + "}", row[i]);
			}
		}
		end(sessions);
		if (run.pipeline) return;
		sessions = sessions(run, run.shop);
		out.write(run.name + "\tshop\t" + inShop(sessions.get("shop"), sessions.get("postgres")) + "\n");
		end(sessions);
	}
}
