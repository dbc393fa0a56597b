#!/usr/bin/env python3
"""Sends order ids to RabbitMQ, so that their messages come back when the time to pay is over.

Use publish_order in your application, after create_order has committed: a
message that comes before its order would find nothing. If the application dies
between the two, the order has no message, and only the sweeper closes it.

On the command line it sends the ids that are given, or one a line of the
standard input. It needs pika (Debian: python3-pika).
"""

import argparse
import os
import sys

import pika


def open_channel(broker):
    """With confirms: from here on, a message that the broker does not take is an error."""
    channel = broker.channel()
    channel.confirm_delivery()
    return channel


def publish_order(channel, order_id, queue='orders'):
    """Returns when the broker has the message on disk, else raises an AMQPError: then send it again."""
    channel.basic_publish('', queue, order_id.encode(), pika.BasicProperties(delivery_mode=2), mandatory=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--broker', metavar='URL', type=pika.URLParameters, help='instead of $AMQP_URL',
                        default=os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672/%2F'))
    parser.add_argument('--queue', default='orders', help='the queue whose messages wait (%(default)s)')
    parser.add_argument('order_id', nargs='*')
    options = parser.parse_args()
    with pika.BlockingConnection(options.broker) as broker:
        channel = open_channel(broker)
        for order_id in options.order_id or (line.rstrip('\n') for line in sys.stdin):
            publish_order(channel, order_id, options.queue)


if __name__ == '__main__':
    main()
