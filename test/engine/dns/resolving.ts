/** An engine whose resolver asks real servers on the loopback, and what such servers answer. */
import { Engine, nodePlatform, nodeTls } from '../../../src/index.js';
import { readPacket, udpPacket } from '../../support/packets.js';
import { nodeConnections } from '../node-connections.js';
import { a, query, read, reply } from './world.js';

const ends = { from: '10.83.0.1', to: '9.9.9.9' };

/** What a server answers, and what it was asked. */
export function answerTo(bytes: Uint8Array, asked: string[], via: 'tls' | 'tcp'): Uint8Array {
  const packet = read(bytes);
  const question = packet.questions![0]!;
  asked.push(question.name);
  return reply(
    { via, bytes, query: packet, question, name: question.name },
    { answers: [a(question.name, '10.1.1.1')] },
  );
}

/** An engine whose resolver asks these servers; `ask` resolves to the addresses, or the failure's name. */
export function resolving(dnsServers: readonly string[], trusted: string) {
  const answers = new Map<number, (packet: Uint8Array) => void>();
  const engine: Engine = new Engine({
    device: {
      packets: (packets) => {
        for (const packet of packets) answers.get(readPacket(packet).port)?.(packet.slice());
      },
    },
    dialers: { direct: nodeConnections(() => engine) },
    platform: nodePlatform(),
    preset: 'mobile',
    dns: { mode: 'hijack', servers: dnsServers, tls: nodeTls({ ca: trusted }) },
  });
  engine.start();
  let port = 4000;
  const ask = async (name: string): Promise<string> => {
    const own = port++;
    const packet = new Promise<Uint8Array>((resolve) => answers.set(own, resolve));
    engine.packets([udpPacket(ends, own, 53, query(name, 'A'))]);
    const { answers: found = [], rcode } = read(readPacket(await packet).data);
    return found.map((one) => String((one as { readonly data: string }).data)).join() || rcode;
  };
  const count = (event: string): number => engine.snapshot().values[`dns{event=${event}}`] ?? 0;
  return { engine, ask, count };
}
