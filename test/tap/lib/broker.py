# What a test asks a broker, for OTBroker.pm: a request in JSON on each line of the standard input, and its answer on a
# line of the output. Bodies are in base64. Each request has a connection of its own, since brokers are restarted.

import base64
import json
import struct
import sys

import pika


class Timestamp(int):
    """A header's time. pika writes only those of the years up to 9999; other clients write milliseconds, too."""


def encode_value(pieces, value, others=pika.data.encode_value):
    if not isinstance(value, Timestamp):
        return others(pieces, value)
    pieces.append(struct.pack('>cQ', b'T', value))
    return 9


pika.data.encode_value = encode_value


def publish(channel, queue, bodies, time=0):
    channel.confirm_delivery()
    properties = pika.BasicProperties(delivery_mode=2, headers={'time': Timestamp(time)})
    for body in bodies:
        channel.basic_publish('', queue, base64.b64decode(body), properties, mandatory=True)
    return len(bodies)


def depth(channel, queue):
    """Messages that no consumer holds."""
    return channel.queue_declare(queue, passive=True).method.message_count


def bind(channel, queue, exchange, key, arguments):
    channel.exchange_declare(exchange, 'topic', durable=True)
    channel.queue_declare(queue, durable=True, arguments=arguments)
    channel.queue_bind(queue, exchange, key)
    return 1


def unbind(channel, queue, exchange, key):
    channel.queue_unbind(queue, exchange, key)
    return 1


def take(channel, queue):
    """All messages of the queue, which is empty then."""
    taken = []
    while (message := channel.basic_get(queue, auto_ack=True))[0]:
        delivery, properties, body = message
        taken.append({'body': base64.b64encode(body).decode(), 'key': delivery.routing_key, **vars(properties)})
    return taken


def answer(parameters, request):
    try:
        with pika.BlockingConnection(parameters) as broker:
            do = {'publish': publish, 'bind': bind, 'unbind': unbind, 'depth': depth, 'take': take,
                  'ping': lambda channel: 1}[request.pop('do')]
            return {'answer': do(broker.channel(), **request)}
    except pika.exceptions.AMQPError as error:
        return {'error': repr(error)}


for line in sys.stdin:
    print(json.dumps(answer(pika.URLParameters(sys.argv[1]), json.loads(line))), flush=True)
