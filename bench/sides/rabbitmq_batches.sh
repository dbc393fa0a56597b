# shellcheck shell=bash disable=SC2034,SC2154
# The same, but a consumer closes all messages that it has at hand in one statement:
# a sweeper that is told by RabbitMQ what is due. rabbitmq.sh has what both share.

rabbitmq_batches_title='RabbitMQ dead letters, many orders a statement'
rabbitmq_batches_leaves='the same, and one order that cannot be closed stops all of its batch'
rabbitmq_batches_packages=$rabbitmq_packages

rabbitmq_batches_setup() { rabbitmq_setup; }
rabbitmq_batches_stop() { rabbitmq_stop; }
rabbitmq_batches_sweep_before() { rabbitmq_sweep_before; }
rabbitmq_batches_sweep() { rabbitmq_drain "$rabbitmq_together"; }
