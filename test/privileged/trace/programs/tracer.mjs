/**
 * Runs traces (of the built program) in the namespace it was started in and prints what came of them: one line of JSON per request line on standard
 * input ({"run": options} or {"probeEnd": options}, or {"many": [options, …]} all at once); ends with standard input. With an
 * argument it becomes that user first.
 */
import { createInterface } from 'node:readline';
import { IpAddress } from '../../../../dist/base/address.js';
import { Millis } from '../../../../dist/base/time.js';
import { SystemEntropy } from '../../../../dist/os/entropy.js';
import { openLinuxPacketIo } from '../../../../dist/os/linux/packet-io.js';
import { Tracer } from '../../../../dist/trace/engine/tracer.js';

const user = process.argv[2];
if (user !== undefined) {
  process.setgroups([]);
  process.setgid(Number(user));
  process.setuid(Number(user));
}
const tracer = new Tracer(
  openLinuxPacketIo((error) => console.error(error)),
  new SystemEntropy(),
);

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  const begun = performance.now();
  const cpu = process.cpuUsage();
  let result;
  try {
    if (request.run !== undefined) result = await run(request.run);
    else if (request.probeEnd !== undefined) {
      result = await tracer.probeEnd(options(request.probeEnd), new AbortController().signal);
    } else result = await Promise.all((request.many ?? []).map((wish) => run(wish)));
  } catch (error) {
    result = { error: error.code, message: error.message };
  }
  const { user, system } = process.cpuUsage(cpu);
  const took = performance.now() - begun;
  console.log(JSON.stringify({ result, took, cpu: (user + system) / 1_000 }, plain));
}
tracer.close();

async function run(wish) {
  for await (const event of tracer.run(options(wish), new AbortController().signal)) {
    if (event.kind === 'done') return event.run;
  }
  throw new Error('no result');
}

function options(wish) {
  const { destination, source, timeout = 1000, sendDelay = 10, ...rest } = wish;
  return {
    protocol: 'udp',
    tcpMethod: 'syn',
    port: 33_434,
    minTtl: 1,
    maxTtl: 30,
    repeats: 1,
    paris: false,
    tos: 0,
    gapLimit: 0,
    rate: 0,
    pmtu: false,
    privilege: 'auto',
    windowsDriver: false,
    ...rest,
    destination: IpAddress.parse(destination),
    ...(source === undefined ? {} : { source: IpAddress.parse(source) }),
    timeout: Millis(timeout),
    sendDelay: Millis(sendDelay),
  };
}

function plain(_key, value) {
  return value instanceof IpAddress ? value.toString() : value;
}
