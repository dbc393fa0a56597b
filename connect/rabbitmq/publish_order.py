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

try:
    import pika
except ImportError as missing:
    sys.exit(f'publish_order: {missing}. It needs pika (Debian: apt-get install python3-pika)')


def open_channel(broker):
    """With confirms: from here on, a message that the broker does not take is an error."""
    channel = broker.channel()
    channel.confirm_delivery()
    return channel


def publish_order(channel, order_id, queue='orders'):
    """Returns when the broker has the message on disk, else raises an AMQPError: then send it again."""
    channel.basic_publish('', queue, order_id.encode(), pika.BasicProperties(delivery_mode=2), mandatory=True)


def broker_url(url):
    try:
        return pika.URLParameters(url)
    except Exception as error:  # pika raises whatever comes
        raise argparse.ArgumentTypeError('it has the form amqp://user:password@host:5672/%2F') from error


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--broker', metavar='URL', type=broker_url, help='instead of $AMQP_URL',
                        default=os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672/%2F'))
    parser.add_argument('--queue', default='orders', help='the queue whose messages wait (%(default)s)')
    parser.add_argument('order_id', nargs='*')
    options = parser.parse_args()
    try:
        with pika.BlockingConnection(options.broker) as broker:
            channel = open_channel(broker)
            for order_id in options.order_id or (line.rstrip('\n') for line in sys.stdin):
                publish_order(channel, order_id, options.queue)
    except pika.exceptions.UnroutableError:
        sys.exit(f'publish_order: there is no queue {options.queue!r} in vhost {options.broker.virtual_host!r}:'
                 ' expire_consumer.py --declare all makes it')
    except pika.exceptions.AMQPError as error:
        sys.exit(f'publish_order: the broker did not take the message: {error!r}')


if __name__ == '__main__':
    main()
