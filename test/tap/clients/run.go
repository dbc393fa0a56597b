// The calls of a plan through pgx. clients.pl describes the plan and the answers.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
)

type side struct {
	Name, Host, Port, Database, Shop string
	Pooled, Pipeline                 bool
}

type step struct {
	SQL         string
	Types       []string
	Values      []*string
	As, Keep    string
	Times       int
	CanPipeline bool `json:"can_pipeline"`
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func bind(kind, text string) interface{} {
	var value interface{} = text // also for numeric: what is a string is sent as text
	var err error
	switch kind {
	case "bigint":
		value, err = strconv.ParseInt(text, 10, 64)
	case "integer":
		value, err = strconv.Atoi(text)
	case "boolean":
		value = text == "true"
	case "interval":
		var seconds float64
		seconds, err = strconv.ParseFloat(strings.Fields(text)[0], 64)
		value = time.Duration(seconds * 1e9)
	case "timestamp with time zone":
		value, err = time.Parse(time.RFC3339Nano, text)
	case "text[]":
		value = strings.Split(strings.Trim(text, "{}"), ",")
	case "jsonb":
		var parsed map[string]interface{}
		err = json.Unmarshal([]byte(text), &parsed)
		value = parsed
	}
	must(err)
	return value
}

func shown(value interface{}) string {
	switch v := value.(type) {
	case nil:
		return `\N`
	case bool:
		return map[bool]string{true: "t", false: "f"}[v]
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case map[string]interface{}:
		text, err := json.Marshal(v)
		must(err)
		return string(text)
	}
	return fmt.Sprint(value)
}

func refusal(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return "!" + pgErr.Code
	}
	return "!" + err.Error()
}

func answer(rows pgx.Rows, err error) string {
	if err != nil {
		return refusal(err)
	}
	defer rows.Close()
	var lines, line []string
	for rows.Next() {
		values, err := rows.Values()
		must(err)
		line = nil
		for _, value := range values {
			line = append(line, shown(value))
		}
		lines = append(lines, strings.Join(line, "\x1f"))
	}
	if rows.Err() != nil {
		return refusal(rows.Err())
	}
	line = nil
	for _, field := range rows.FieldDescriptions() {
		line = append(line, string(field.Name))
	}
	if line == nil {
		return ""
	}
	return strings.Join(append([]string{strings.Join(line, "\x1f")}, lines...), "\x1e")
}

func answers(ctx context.Context, db *pgx.Conn, s step, values []interface{}, pipelined bool) (all []string) {
	if !pipelined {
		for len(all) < s.Times {
			all = append(all, answer(db.Query(ctx, s.SQL, values...)))
		}
		return all
	}
	batch := &pgx.Batch{}
	for i := 0; i < s.Times; i++ {
		batch.Queue(s.SQL, values...)
	}
	results := db.SendBatch(ctx, batch)
	defer results.Close()
	for len(all) < s.Times {
		all = append(all, answer(results.Query()))
	}
	return all
}

func inShop(ctx context.Context, db, look *pgx.Conn) []string {
	created := func() string {
		mayPay, err := create(ctx, db, "C-1", 4200)
		must(err)
		return map[bool]string{true: "pending", false: "closed"}[mayPay]
	}
	pay := func(order, id string, cents int64) string {
		return strconv.Itoa(webhook(ctx, db, payment{order, id, cents, "EUR"}))
	}
	refunds := func(send func(refund) (string, error)) string {
		sent, err := sendRefunds(ctx, db, send)
		must(err)
		return strconv.Itoa(sent)
	}
	// Another session sees what was committed before the call.
	bank := func(r refund) (number string, err error) {
		err = look.QueryRow(ctx, "SELECT 'g-' || state FROM order_timeout.refunds WHERE refund_ref = $1", r.ref).Scan(&number)
		return number, err
	}
	lost := func(refund) (string, error) { return "", errors.New("no answer") }
	return []string{
		created(),
		pay("C-1", "w-1", 4200),
		pay("C-1", "w-1", 4200),
		pay("C-1", "w-1", 4300),
		pay("C-2", "w-2", 100),
		pay("C-1", "w-3", 700),
		refunds(bank),
		refunds(bank),
		pay("C-1", "w-4", 800),
		refunds(lost),
		created(),
	}
}

func sessions(ctx context.Context, run side, database string) map[string]*pgx.Conn {
	all := map[string]*pgx.Conn{}
	for _, user := range []string{"shop", "postgres"} {
		mode := map[bool]string{true: "describe", false: "prepare"}[run.Pooled]
		db, err := pgx.Connect(ctx, fmt.Sprintf("host=%s port=%s dbname=%s user=%s statement_cache_mode=%s",
			run.Host, run.Port, database, user, mode))
		must(err)
		all[user] = db
	}
	return all
}

func end(ctx context.Context, all map[string]*pgx.Conn) {
	for _, db := range all {
		must(db.Close(ctx))
	}
}

func play(ctx context.Context, run side, steps []step, out *bufio.Writer) {
	dbs := sessions(ctx, run, run.Database)
	kept := map[string]string{}
	for number, s := range steps {
		values := make([]interface{}, len(s.Values))
		for i, text := range s.Values {
			if text == nil {
				continue
			}
			if known, ok := kept[*text]; ok {
				text = &known
			}
			values[i] = bind(s.Types[i], *text)
		}
		for _, said := range answers(ctx, dbs[s.As], s, values, run.Pipeline && s.CanPipeline) {
			fmt.Fprintf(out, "%s\t%d\t%s\n", run.Name, number, said)
			lines := strings.Split(said, "\x1e")
			if s.Keep == "" || len(lines) < 2 {
				continue
			}
			row := strings.Split(lines[1], "\x1f")
			for i, name := range strings.Split(lines[0], "\x1f") {
				key := "{" + s.Keep + "." + name + "}"
				if _, ok := kept[key]; !ok {
					kept[key] = row[i]
				}
			}
		}
	}
	end(ctx, dbs)
	if run.Pipeline {
		return
	}
	dbs = sessions(ctx, run, run.Shop)
	fmt.Fprintf(out, "%s\tshop\t%s\n", run.Name, strings.Join(inShop(ctx, dbs["shop"], dbs["postgres"]), " "))
	end(ctx, dbs)
}

func main() {
	ctx := context.Background()
	var plan struct {
		Runs  []side
		Steps []step
	}
	text, err := os.ReadFile(os.Args[1])
	must(err)
	must(json.Unmarshal(text, &plan))
	file, err := os.Create(os.Args[2])
	must(err)
	out := bufio.NewWriter(file)
	for _, run := range plan.Runs {
		play(ctx, run, plan.Steps, out)
	}
	must(out.Flush())
}
