/*
 * store_table.h
 *    Private to the stores: what the tables look like, described once. Both stores take from here how a row is read and
 *    written, the text of SQL statements, and the shape that a table must have.
 */
#ifndef OT_STORE_TABLE_H
#define OT_STORE_TABLE_H

#include "rows.h"
#include "store_values.h"

#define OT_MAX_COLUMNS_OF_TABLE OT_MAX_ARGS
#define OT_MAX_KEY_COLUMNS 2

typedef enum TableName
{
	TABLE_NONE,
	TABLE_POLICIES,
	TABLE_ORDERS,
	TABLE_PAYMENTS,
	TABLE_REFUNDS,
	TABLE_ATTEMPTS,
	TABLE_EVENTS,
	OT_TABLES
} TableName;

/* How a column is kept in the struct of its row. */
typedef enum ColumnKind
{
	COLUMN_TEXT,				/* char * */
	COLUMN_WORD,				/* an enum; text in the table */
	COLUMN_INT8,
	COLUMN_INT8_OR_NULL,		/* int64, 0 is NULL */
	COLUMN_INT4,
	COLUMN_FLOAT8,
	COLUMN_BOOL,
	COLUMN_TIME,				/* TimestampTz; OT_NO_TIME is NULL */
	COLUMN_INTERVAL,			/* Interval * */
	COLUMN_USECS,				/* int64 microseconds, 0 is NULL; an interval in the table */
	COLUMN_JSONB,				/* Jsonb *, which is written and never read */
	COLUMN_WRITER				/* the top-level transaction that writes the row: the struct has no member for it */
} ColumnKind;

typedef struct ColumnSpec
{
	const char *name;
	ColumnKind	kind;
	size_t		offset;			/* in the struct of its row */
	bool		fixed;			/* no update changes it */
	bool		closes;			/* closing a batch of orders changes it, and no other column */
	bool		terms;			/* of an order: seldom changed */
	bool		generated;		/* computed by SQL; the fast store writes what the struct has */
	const char *const *words;	/* of a COLUMN_WORD */
} ColumnSpec;

typedef struct TableSpec
{
	const char *name;
	size_t		row_size;
	int			key_columns;	/* the first columns, all of them text, are the primary key; 0: they number themselves */
	bool		read_only;
	bool		versioned;		/* the struct begins with a RowVersion */
	int			checks;			/* how many CHECKs the extension made; of a table that is written */
	int			column_count;
	const ColumnSpec *columns;	/* in the order of the table */
} TableSpec;

extern const TableSpec ot_tables[OT_TABLES];

/* What a column's type is in the table. */
extern Oid	ot_column_type(const ColumnSpec *column);

/* A row from the columns of its table, and all of them as arguments, in the order of the table. */
extern void *ot_row_read(TableName table, Columns *columns);
extern void ot_row_args(Args *args, TableName table, const void *row);

/* One of them; the first column is 0. */
extern void ot_row_column_arg(Args *args, TableName table, const void *row, int number);

/* The same for an update that leaves fixed columns as they are stored: their places stay empty. */
extern void ot_row_changes(Args *args, TableName table, const void *row);

/* The key of a row: as many texts as the table has key columns. */
extern void ot_row_key(const char **key, TableName table, const void *row);
extern bool ot_row_has_key(TableName table, const void *row, const char *const *key);

/* Only of a versioned table. Where the row is stored comes among the arguments after the columns. */
extern RowVersion *ot_row_version(TableName table, const void *row);
extern void ot_row_place_arg(Args *args, TableName table, const void *row);

#endif
