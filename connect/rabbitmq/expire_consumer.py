#!/usr/bin/env python3
"""Closes orders when RabbitMQ says that their time is over.

It reads a queue of dead letters and calls order_timeout.expire_order for each
message. A message is the order id as text in UTF-8, or a JSON object with the
member order_id. It is acknowledged after the database has committed.

An order that is not due yet, or whose gateways are being asked first, comes
again after --retry-after seconds, through QUEUE.retry. What is no order id goes
to QUEUE.rejected. doc/rabbitmq.md explains all of it.

It needs pika and psycopg 3 (Debian: python3-pika python3-psycopg).
"""

import argparse
import collections
import json
import logging
import os
import signal
import struct
import sys

try:
    import pika
    import psycopg
except ImportError as missing:
    sys.exit(f'expire_consumer: {missing}. It needs pika and psycopg 3'
             ' (Debian: apt-get install python3-pika python3-psycopg)')

STOP = {signal.SIGTERM, signal.SIGINT}
LONGEST_WAIT = 5  # seconds between two tries to connect

# The order may close later: the message comes again.
AGAIN = ('not_due', 'closing', 'failed')
LEVELS = {'not_found': logging.WARNING, 'rejected': logging.WARNING, 'failed': logging.ERROR}

RUN_AGAIN = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
SERVER_GOES = (psycopg.errors.AdminShutdown, psycopg.errors.CrashShutdown, psycopg.errors.ReadOnlySqlTransaction)
LOST = (psycopg.Error, pika.exceptions.AMQPError, OSError)

log = logging.getLogger('expire_consumer')


# ------------------------------------------------------------ the message

def order_id_of(body):
    """Raises ValueError if the message is neither of the two forms."""
    text = body.decode().rstrip('\r\n')
    if not text.startswith('{'):
        return text
    try:
        order_id = json.loads(text).get('order_id')
    except RecursionError as error:
        raise ValueError('JSON that is too deep') from error
    if type(order_id) not in (str, int):
        raise ValueError('JSON without an order_id')
    str(order_id).encode()  # JSON can write half a character, which is no text
    return str(order_id)


def first_line(error):
    return (str(error) or repr(error)).partition('\n')[0]


ADVICE = (
    ('Peer authentication failed', 'name a host in DATABASE_URL, host=localhost for example, and a password'),
    ('no password supplied', 'set PGPASSWORD, or write ~/.pgpass'),
    ('schema "order_timeout" does not exist', 'does DATABASE_URL name the database that has the extension?'),
    ('permission denied for function expire_order',
     "SELECT order_timeout.grant_access(role_name => '...', access => 'application');"),
    ('permission denied for schema order_timeout',
     "SELECT order_timeout.grant_access(role_name => '...', access => 'application');"),
    ('NOT_FOUND - no queue', 'is it another --queue, or another vhost in AMQP_URL? --declare all makes it, to try'),
    ('ACCESS_REFUSED - Login', 'check user and password in AMQP_URL; guest may log in only from the broker\'s machine'),
    (' vhost ', 'the vhost stands after the last / of AMQP_URL, / itself as %2F'),
)


def with_advice(error):
    """What was said, and what to do about the usual causes."""
    said = first_line(error)
    advice = next((advice for cause, advice in ADVICE if cause in said), None)
    return f'{said}: {advice}' if advice else said


# ------------------------------------------------------------ the database

def connect_database(conninfo):
    """Each statement commits. An order that others have locked must not stop the queue, nor a server that is silent."""
    db = psycopg.connect(conninfo, autocommit=True, client_encoding='UTF8', fallback_application_name='expire_consumer',
                         connect_timeout=10, keepalives_idle=10, keepalives_interval=10, keepalives_count=3)
    db.execute("SELECT set_config('lock_timeout', '5s', false), set_config('statement_timeout', '20s', false)")
    return db


def expire(db, order_id, tries=5):
    """The outcome of expire_order. What it did is committed when this returns."""
    while True:
        try:
            row = db.execute('SELECT outcome FROM order_timeout.expire_order(order_id => %s)', [order_id]).fetchone()
            return row[0]
        except RUN_AGAIN:
            tries -= 1
            if tries == 0:
                raise


def is_order_id(db, order_id):
    """Whether the database takes it for one. A hook of yours may raise the same errors, but here none is called."""
    try:
        db.execute('SELECT FROM order_timeout.history(order_id => %s)', [order_id])
    except psycopg.DataError:
        return False
    except psycopg.Error as error:
        log.debug('%r is an order id: %s', order_id, error)
    return True


def outcome_of(db, order_id):
    """What is to become of the message, and why if it is no outcome of expire_order."""
    try:
        return expire(db, order_id), None
    except psycopg.Error as error:
        if db.closed or isinstance(error, SERVER_GOES):
            raise
        if isinstance(error, psycopg.DataError) and not is_order_id(db, order_id):
            return 'rejected', error
        return 'failed', error


def judge(db, body):
    try:
        order_id = order_id_of(body)
    except ValueError as error:
        return body[:80], 'rejected', error
    return (order_id[:255], *outcome_of(db, order_id))


# ------------------------------------------------------------ the broker

def without_odd_tables(decode_table):
    """pika dies of a message with a header that Python cannot hold, such as a time in milliseconds, and meets it again
    each time that it connects. Nothing here reads headers."""
    def decode(encoded, offset):
        try:
            return decode_table(encoded, offset)
        except Exception:
            return {}, offset + 4 + struct.unpack_from('>I', encoded, offset)[0]
    return decode


def declare_pipeline(channel, options):
    """The classic one: orders wait for pay_within, and their dead letters go to the queue that is read."""
    channel.exchange_declare('dlx', 'direct', durable=True)
    channel.queue_declare(options.queue, durable=True)
    channel.queue_bind(options.queue, 'dlx', options.queue)
    channel.queue_declare('orders', durable=True, arguments={
        'x-message-ttl': options.pay_within * 1000,
        'x-dead-letter-exchange': 'dlx', 'x-dead-letter-routing-key': options.queue})


def declare_own(channel, options):
    """All messages of the first wait equally long, so none waits behind a longer one."""
    passive = options.declare == 'none'
    channel.queue_declare(options.queue, passive=True)
    channel.queue_declare(options.queue + '.retry', passive=passive, durable=True, arguments={
        'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': options.queue})
    channel.queue_declare(options.queue + '.rejected', passive=passive, durable=True)


def open_channel(broker, options):
    channel = broker.channel()
    channel.confirm_delivery()
    channel.basic_qos(prefetch_count=options.prefetch)
    if options.declare == 'all':
        declare_pipeline(channel, options)
    declare_own(channel, options)
    return channel


def publish(channel, queue, body, **properties):
    """Returns when the broker has it on disk, else raises."""
    channel.basic_publish('', queue, body, pika.BasicProperties(delivery_mode=2, **properties), mandatory=True)


def settle(channel, options, delivery, body, outcome, reason):
    """A crash before the last line leaves a message too many, which does no harm."""
    if outcome in AGAIN:
        publish(channel, options.queue + '.retry', body, expiration=str(options.retry_after * 1000))
    elif outcome == 'rejected':
        publish(channel, options.queue + '.rejected', body, headers={'reason': first_line(reason)})
    channel.basic_ack(delivery.delivery_tag)


# ------------------------------------------------------------ the loop

def asked_to_stop():
    return bool(signal.sigpending() & STOP)


def handle(db, channel, options, counts, delivery, body):
    order_id, outcome, reason = judge(db, body)
    settle(channel, options, delivery, body, outcome, reason)
    counts[outcome] += 1
    because = f': {with_advice(reason)}' if reason else ''
    log.log(LEVELS.get(outcome, logging.INFO), '%r %s%s', order_id, outcome, because)


def serve(options, counts):
    """Returns when it is asked to stop. Messages that are not acknowledged go back to their queue."""
    with connect_database(options.database) as db, pika.BlockingConnection(options.broker) as broker:
        channel = open_channel(broker, options)
        log.info('reading %s', options.queue)
        for delivery, _, body in channel.consume(options.queue, inactivity_timeout=0.5):
            if asked_to_stop():
                return
            if delivery:
                handle(db, channel, options, counts, delivery, body)
        raise pika.exceptions.AMQPError(f'queue {options.queue} was deleted')


def end_if_declared_otherwise(error):
    if getattr(error, 'reply_code', None) == 406:
        sys.exit(f'{error.reply_text}\nA queue is there with other arguments. See --declare.')


def run(options):
    counts = collections.Counter()
    wait = 0.5
    while not asked_to_stop():
        before = sum(counts.values())
        try:
            serve(options, counts)
        except LOST as error:
            end_if_declared_otherwise(error)
            wait = 0.5 if sum(counts.values()) > before else min(2 * wait, LONGEST_WAIT)
            log.warning('connecting again in %g s: %s', wait, with_advice(error))
            if signal.sigtimedwait(STOP, wait):
                break
    log.info('stopped: %s', ', '.join(f'{n} {outcome}' for outcome, n in sorted(counts.items())) or 'no message')


def broker_url(url):
    try:
        return pika.URLParameters(url)
    except Exception as error:  # pika raises whatever comes
        raise argparse.ArgumentTypeError('it has the form amqp://user:password@host:5672/%2F') from error


def conninfo(text):
    try:
        psycopg.conninfo.conninfo_to_dict(text)
    except psycopg.ProgrammingError as error:
        raise argparse.ArgumentTypeError(first_line(error)) from error
    return text


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--broker', metavar='URL', type=broker_url, help='instead of $AMQP_URL',
                        default=os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672/%2F'))
    parser.add_argument('--database', metavar='CONNINFO', type=conninfo, default=os.environ.get('DATABASE_URL', ''),
                        help='instead of $DATABASE_URL; what it leaves out comes from PGHOST, PGDATABASE and so on')
    parser.add_argument('--queue', default='dlx.orders', help='the queue of dead letters (%(default)s)')
    parser.add_argument('--prefetch', type=int, default=50, help='messages that wait here (%(default)s)')
    parser.add_argument('--retry-after', type=int, default=10, metavar='SECONDS',
                        help='when a message comes again whose order is not closed (%(default)s)')
    parser.add_argument('--declare', choices=['own', 'all', 'none'], default='own',
                        help='own: QUEUE.retry and QUEUE.rejected. all: also the queue orders, the exchange dlx and'
                             ' QUEUE. none: all of them must be there (%(default)s)')
    parser.add_argument('--pay-within', type=int, default=1800, metavar='SECONDS',
                        help='with --declare all: how long a message stays in orders (%(default)s)')
    return parser.parse_args()


def main():
    options = parse_arguments()
    options.broker.blocked_connection_timeout = 60
    pika.data.decode_table = without_odd_tables(pika.data.decode_table)
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(levelname)s %(message)s')
    logging.getLogger('pika').setLevel(logging.CRITICAL)  # it reports in many lines what is reported here in one
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)  # they wait until the message in hand is done
    run(options)


if __name__ == '__main__':
    main()
