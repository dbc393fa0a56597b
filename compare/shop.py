#!/usr/bin/env python3
"""The shop of bin/compare: the same orders for both timers, at the same moments.

Each order is created in the databases broker and sweeper with one deadline,
and its message is published when the first of them has committed. Payments and
new deadlines are reported to both. What fails is tried again until it is done.

AMQP_URL, PGHOST and so on lead to the servers. It needs pika and psycopg 3.
"""

import argparse
import heapq
import os
import random
import time

import pika
import psycopg

SIDES = ('broker', 'sweeper')
GIVE_UP = 60  # seconds
LOST = (psycopg.OperationalError, pika.exceptions.AMQPError, OSError)

CREATE = "SELECT order_timeout.create_order(%s, 1000, 'EUR', expires_at => to_timestamp(%s))"
CREATE_MANY = ("SELECT count(order_timeout.create_order(%s || i, 1000, 'EUR', expires_at => to_timestamp(%s)))"
               ' FROM generate_series(1, %s) i')
EXTEND = 'SELECT order_timeout.extend_order(%s, to_timestamp(%s))'
PAY = "SELECT order_timeout.record_payment(%s, 'bank', %s, 1000, 'EUR')"


def until_done(connect, use, connection):
    """The connection that did it, which may be another one than before."""
    end = time.time() + GIVE_UP
    while True:
        try:
            connection = connection or connect()
            use(connection)
            return connection
        except LOST:
            if time.time() > end:
                raise
            connection = None
            time.sleep(0.1)


class Shop:
    def __init__(self, queue):
        self.queue = queue
        self.databases = {}
        self.channel = None

    def call(self, side, statement, *arguments):
        self.databases[side] = until_done(
            lambda: psycopg.connect(dbname=side, autocommit=True),
            lambda db: db.execute(statement, arguments), self.databases.get(side))

    def open_channel(self):
        """A queue for messages with a TTL of their own. The consumers have declared the rest."""
        channel = pika.BlockingConnection(pika.URLParameters(os.environ['AMQP_URL'])).channel()
        if self.queue != 'orders':
            channel.queue_declare(self.queue, durable=True, arguments={
                'x-dead-letter-exchange': 'dlx', 'x-dead-letter-routing-key': 'dlx.orders'})
        return channel

    def publish(self, order_id, ttl=None, transient=False):
        properties = pika.BasicProperties(delivery_mode=1 if transient else 2,
                                          expiration=None if ttl is None else str(max(0, round(ttl * 1000))))
        self.channel = until_done(
            self.open_confirmed,
            lambda channel: channel.basic_publish('', self.queue, order_id.encode(), properties, mandatory=True),
            self.channel)

    def open_confirmed(self):
        channel = self.open_channel()
        channel.confirm_delivery()
        return channel

    def publish_many(self, order_ids, deadline):
        """Without a confirm for each, or the deadline would be over before the last one is sent."""
        channel = self.open_channel()
        for order_id in order_ids:
            ttl = max(0, round((deadline - time.time()) * 1000))
            channel.basic_publish('', self.queue, order_id.encode(),
                                  pika.BasicProperties(delivery_mode=2, expiration=str(ttl)))
        channel.connection.close()


# ------------------------------------------------------------ orders one by one

class Plan:
    """What happens when, in the sequence of time."""

    def __init__(self, shop, options):
        self.shop, self.options = shop, options
        self.waiting, self.number = [], 0

    def at(self, when, what, *arguments):
        self.number += 1
        heapq.heappush(self.waiting, (when, self.number, what, arguments))

    def run(self):
        options = self.options
        self.at(options.start, self.create, 0)
        while self.waiting:
            when, _, what, arguments = heapq.heappop(self.waiting)
            time.sleep(max(0, when - time.time()))
            what(*arguments)

    def after(self, i):
        """On a slow machine, orders come later than planned, and what is due for the others comes first."""
        options = self.options
        planned = options.start + options.over * (i + 1) / options.orders
        if i + 1 < options.orders:
            self.at(max(planned, time.time()), self.create, i + 1)
        elif options.created:
            open(options.created, 'x').close()

    def create(self, i):
        options = self.options
        transient = options.transient and i % 2 == 1
        order_id = f"{options.scene}{'.transient' if transient else ''}-{i:06}"
        pay_within = options.deadlines[i % len(options.deadlines)]
        if len(options.deadlines) > 1:
            order_id = f'{options.scene}.{pay_within:g}s-{i:06}'
        deadline = time.time() + pay_within
        self.shop.call('broker', CREATE, order_id, deadline)
        self.shop.publish(order_id, deadline - time.time() if self.shop.queue != 'orders' else None, transient)
        self.shop.call('sweeper', CREATE, order_id, deadline)
        if options.move:
            moved = deadline + random.uniform(0.5, 4)
            self.at(deadline - pay_within / 2, self.extend, order_id, moved)
            deadline = moved
        if i % 10 == 5:
            self.at(deadline + random.uniform(-0.1, 0.2), self.pay, order_id)
        self.after(i)

    def extend(self, order_id, deadline):
        for side in SIDES:
            self.shop.call(side, EXTEND, order_id, deadline)

    def pay(self, order_id):
        for side in random.sample(SIDES, 2):
            self.shop.call(side, PAY, order_id, 'pay-' + order_id)


# ------------------------------------------------------------ a burst

def burst(shop, options):
    """All are due at once, at --start. Fails if that is over before all is prepared."""
    prefix = options.scene + '-'
    shop.call(options.burst, CREATE_MANY, prefix, options.start, options.orders)
    if options.burst == 'broker':
        shop.publish_many((f'{prefix}{i}' for i in range(1, options.orders + 1)), options.start)
    if time.time() > options.start:
        raise SystemExit(f'the burst was prepared {time.time() - options.start:.1f} s too late')


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('scene', help='what order ids begin with')
    parser.add_argument('--orders', type=int, default=1000)
    parser.add_argument('--start', type=float, default=time.time(), metavar='EPOCH')
    parser.add_argument('--over', type=float, default=10, metavar='SECONDS', help='so long orders are created')
    parser.add_argument('--deadlines', type=lambda text: [float(word) for word in text.split(',')], default=[2.0],
                        metavar='SECONDS,...', help='in turn')
    parser.add_argument('--queue', default='orders', help='orders has one TTL; in others each message has its own')
    parser.add_argument('--move', action='store_true', help='halfway, each deadline is moved 0.5 to 4 seconds on')
    parser.add_argument('--transient', action='store_true', help='every second message is not persistent')
    parser.add_argument('--created', metavar='FILE', help='is made when all orders are there')
    parser.add_argument('--burst', choices=SIDES, help='all at once, for this side only, due at --start')
    return parser.parse_args()


def main():
    options = parse_arguments()
    random.seed(options.scene)
    shop = Shop(options.queue)
    if options.burst:
        burst(shop, options)
    else:
        Plan(shop, options).run()


if __name__ == '__main__':
    main()
