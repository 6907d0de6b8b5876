/**
 * `idle`: behind NATs whose mappings live 30 seconds, ten minutes in which nobody sends anything and ten minutes of a ping a second, by
 * a direct link and through the relay. The relay counts what it forwards, and stands still while the link is direct.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Seconds } from '../../src/base/time.js';
import type { Network, RelayThreadStatus } from '../../test/e2e/network.js';
import { goesBy, makeScene, startPing, type Via } from './scene.js';
import type { Case, Hold } from './suite.js';

/** Minutes, unless `--runs` says otherwise. */
const MINUTES = 10;
/** Heartbeats of both ends on the link that stands by, with their acknowledgements, in a second in which packets flow. */
const STANDBY_PACKETS_A_SECOND = 16;
const LIFETIME = Seconds(30);

export function idleCases(minutes = MINUTES): readonly Case[] {
  return [
    { name: `${minutes} minutes of silence, direct`, peers: '', run: (hold) => silence(hold, minutes) },
    { name: `${minutes * 60} pings, one a second, direct`, peers: '', run: (hold) => pings(hold, minutes, 'direct') },
    { name: `${minutes * 60} pings, one a second, relay`, peers: '', run: (hold) => pings(hold, minutes, 'relay') },
  ];
}

async function begin(hold: Hold, via: Via): Promise<Network> {
  const home = { kind: 'moderate', lifetime: LIFETIME } as const;
  const network = await makeScene(hold, {
    topology: { user: home, service: home, serviceClosed: false },
    path: via === 'relay' ? 'relay' : 'auto',
  });
  const first = await startPing(network);
  await goesBy(network, via);
  await delay(1000);
  await first.stop();
  return network;
}

async function silence(hold: Hold, minutes: number): Promise<string> {
  const network = await begin(hold, 'direct');
  const { session, link } = await goesBy(network, 'direct');
  const before = await channelPackets(network);
  await delay(minutes * 60_000);
  const after = await goesBy(network, 'direct', Seconds(1));
  const packets = (await channelPackets(network)) - before;
  if (after.session !== session || after.link!.number !== link!.number) throw new Error('it is another link');
  const ping = await startPing(network);
  await delay(3000);
  const { received, lost } = await ping.report();
  await ping.stop();
  if (lost > 0 || received === 0) throw new Error(`${lost} pings are lost after the silence`);
  return `the same direct link, and every ping after it is answered; the relay forwarded ${packets} packets meanwhile`;
}

async function pings(hold: Hold, minutes: number, via: Via): Promise<string> {
  const network = await begin(hold, via);
  const before = await channelPackets(network);
  const ping = await startPing(network, 1000);
  await ping.reset();
  await delay(minutes * 60_000 + 500);
  const { sent, received } = await ping.report();
  await ping.stop();
  const packets = (await channelPackets(network)) - before;
  await goesBy(network, via, Seconds(1));
  if (received < sent - 1) throw new Error(`${received} of ${sent} are answered`);
  const isStill = packets <= minutes * 60 * STANDBY_PACKETS_A_SECOND;
  if (via === 'direct' && !isStill) throw new Error(`the relay forwarded ${packets} packets`);
  return `${received} of ${sent} answered; the relay forwarded ${packets} packets meanwhile`;
}

async function channelPackets(network: Network): Promise<number> {
  const { channels } = await network.relay.status<RelayThreadStatus>();
  return channels.reduce((sum, { packets }) => sum + packets.fromAgent + packets.fromConnector, 0);
}
