"""Takes COUNT messages of the relay, and prints of each how many milliseconds after its created_at it came.

usage: lags.py PORT COUNT      0: only makes the exchange and the queue, and empties it
"""

import datetime
import json
import sys
import time

import pika

port, count = map(int, sys.argv[1:])
channel = pika.BlockingConnection(pika.ConnectionParameters('127.0.0.1', port)).channel()
channel.exchange_declare('order_timeout', 'topic', durable=True)
channel.queue_declare('events', durable=True)
channel.queue_bind('events', 'order_timeout', '#')
channel.queue_purge('events')
if count == 0:
    sys.exit()
print('ready', flush=True)
lags = []
for _, _, body in channel.consume('events', auto_ack=True):
    came = time.time()
    lags.append(came - datetime.datetime.fromisoformat(json.loads(body)['created_at'].replace('Z', '+00:00')).timestamp())
    if len(lags) == count:
        break
for lag in sorted(lags):
    print(1000 * lag)
