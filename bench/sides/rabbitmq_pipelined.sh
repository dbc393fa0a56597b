# shellcheck shell=bash disable=SC2034,SC2154
# The same, but a consumer sends the closings of all messages that it has at hand without waiting for the one before:
# still a transaction an order. rabbitmq.sh has what all share.

rabbitmq_pipelined_title='RabbitMQ dead letters, closings sent without waiting'
rabbitmq_pipelined_leaves='the same'
rabbitmq_pipelined_packages=$rabbitmq_packages

rabbitmq_pipelined_setup() { rabbitmq_setup; }
rabbitmq_pipelined_stop() { rabbitmq_stop; }
rabbitmq_pipelined_sweep_before() { rabbitmq_sweep_before; }
rabbitmq_pipelined_sweep() { rabbitmq_drain "$rabbitmq_each"; }
