EXTENSION = order_timeout
# The version stands in the control file and nowhere else.
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $(EXTENSION).control)

MODULE_big = $(EXTENSION)
# One folder a layer, each calls only those below it; file names are unique.
LAYERS = $(addprefix src/,api core store store/sql store/fast store/row rules)
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard $(LAYERS:=/*.c))))
PG_CPPFLAGS = $(addprefix -I$(srcdir)/,$(LAYERS)) -DOT_VERSION='"$(EXTVERSION)"'

INSTALL_SQL = sql/$(EXTENSION)--$(EXTVERSION).sql
INSTALL_PIECES = $(sort $(wildcard sql/install/*.sql))
DATA_built = $(INSTALL_SQL)
# What was released (kept by bin/freeze), and the ways from there.
DATA = $(filter-out %/$(notdir $(INSTALL_SQL)),$(wildcard sql/released/*.sql sql/upgrade/*.sql))

# Sources, specs and all expected output: test/sql, test/specs, expected/.
# pg_regress looks for expected/ in the working directory before it looks in
# --inputdir. So does the isolation runner from 16 on (--expecteddir); in 15 it
# looks in --outputdir, which PGXS sets to output_iso.
# Every test creates the extension itself, and drops it.
REGRESS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=.

EXTRA_CLEAN = sql/$(EXTENSION)--*.sql dist

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# PGXS follows no headers on its own: a changed one rebuilds all. So does the version.
$(OBJS) $(OBJS:.o=.bc): $(wildcard $(LAYERS:=/*.h)) $(EXTENSION).control

$(INSTALL_SQL): $(INSTALL_PIECES) $(EXTENSION).control
	printf '%s\n' '\echo Use "CREATE EXTENSION $(EXTENSION)" to load this file. \quit' > $@
	cat $(INSTALL_PIECES) >> $@

# Half a script would look newer than its pieces.
.DELETE_ON_ERROR:

# The relay to RabbitMQ: a program of its own, for which alone librabbitmq is needed.
.PHONY: relay relay-install relay-clean
relay:
	$(MAKE) -C $(srcdir)/connect/relay PG_CONFIG=$(PG_CONFIG)

relay-install:
	$(MAKE) -C $(srcdir)/connect/relay PG_CONFIG=$(PG_CONFIG) install

relay-clean:
	$(MAKE) -C $(srcdir)/connect/relay clean

# The picture of doc/architecture.md, committed like its source: needs graphviz.
doc/architecture.svg: doc/architecture.dot
	dot -Tsvg -o $@ $<

# The archive for PGXN: what is committed, and META.json with the version.
DIST = $(EXTENSION)-$(EXTVERSION)

.PHONY: dist
dist:
	mkdir -p dist
	sed 's/@VERSION@/$(EXTVERSION)/g' META.json > dist/META.json
	git archive --format=zip --prefix=$(DIST)/ --add-file=dist/META.json \
		--output=dist/$(DIST).zip HEAD
	rm dist/META.json
