// The calls of a plan through node-postgres. clients.pl describes the plan and the answers.
'use strict';

const fs = require('fs');
const { Client } = require('pg');
const shop = require(process.argv[4]);

const BIND = {
  'text': (text) => text,
  'bigint': BigInt,
  'integer': Number,
  'numeric': (text) => text,
  'boolean': (text) => text === 'true',
  'interval': (text) => text,
  'timestamp with time zone': (text) => new Date(text),
  'text[]': (text) => text.replace(/[{}]/g, '').split(','),
  'jsonb': JSON.parse,
};

function shown(value) {
  if (value === null) return '\\N';
  if (typeof value === 'boolean') return value ? 't' : 'f';
  if (value instanceof Date) return value.toISOString();
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

function answer({ fields, rows }) {
  if (!fields.length) return '';
  return [fields.map((field) => field.name), ...rows].map((row) => row.map(shown).join('\x1f')).join('\x1e');
}

// A query that is queued while another runs is as near as this client comes to a pipeline.
async function answers(client, run, number, step, values) {
  const query = { text: step.sql, values, rowMode: 'array', name: run.pooled ? undefined : `step ${number}` };
  const ask = () => client.query(query).then(answer, (error) => '!' + error.code);
  if (run.pipeline && step.can_pipeline) return Promise.all(Array.from({ length: step.times }, ask));
  const all = [];
  while (all.length < step.times) all.push(await ask());
  return all;
}

async function inShop(client, look) {
  const payment = (order, id, cents) => shop.webhook(client, { order, id, cents, currency: 'EUR' });
  // Another session sees what was committed before the call.
  const send = async (refund) => (await look.query(
    "SELECT 'g-' || state AS number FROM order_timeout.refunds WHERE refund_ref = $1", [refund.refund_ref])).rows[0].number;
  const lost = async () => { throw new Error('no answer'); };
  return [
    await shop.create(client, 'C-1', 4200) ? 'pending' : 'closed',
    await payment('C-1', 'w-1', 4200),
    await payment('C-1', 'w-1', 4200),
    await payment('C-1', 'w-1', 4300),
    await payment('C-2', 'w-2', 100),
    await payment('C-1', 'w-3', 700),
    await shop.sendRefunds(client, send),
    await shop.sendRefunds(client, send),
    await payment('C-1', 'w-4', 800),
    await shop.sendRefunds(client, lost),
    await shop.create(client, 'C-1', 4200) ? 'pending' : 'closed',
  ];
}

async function sessions(run, database) {
  const clients = {};
  for (const user of ['shop', 'postgres']) {
    clients[user] = new Client({ host: run.host, port: run.port, database: run[database], user });
    await clients[user].connect();
  }
  return clients;
}

const end = (clients) => Promise.all(Object.values(clients).map((client) => client.end()));

async function main(plan, out) {
  for (const run of plan.runs) {
    let clients = await sessions(run, 'database');
    const kept = {};
    for (const [number, step] of plan.steps.entries()) {
      const values = step.values.map((text, i) => text === null ? null : BIND[step.types[i]](kept[text] ?? text));
      for (const said of await answers(clients[step.as], run, number, step, values)) {
        fs.writeSync(out, `${run.name}\t${number}\t${said}\n`);
        const [names, row] = said.split('\x1e').map((line) => line.split('\x1f'));
        if (step.keep && row) names.forEach((name, i) => { kept[`{${step.keep}.${name}}`] ??= row[i]; });
      }
    }
    await end(clients);
    if (run.pipeline) continue;
    clients = await sessions(run, 'shop');
    fs.writeSync(out, `${run.name}\tshop\t${(await inShop(clients.shop, clients.postgres)).join(' ')}\n`);
    await end(clients);
  }
}

main(JSON.parse(fs.readFileSync(process.argv[2], 'utf8')), fs.openSync(process.argv[3], 'w'));
