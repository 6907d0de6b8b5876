import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type DeviceMemory, READABLE, type TunDevice, VNET_HEADER_SIZE } from '../../../src/os/io.js';
import { createLinuxSockets, createReactor } from '../../../src/os/linux/linux.js';
import type { EpollReactor } from '../../../src/os/linux/reactor.js';
import { openTun } from '../../../src/os/linux/tun.js';
import { MOST_PIECES } from '../../../src/wire/gro-flow.js';
import { type Transpiled, transpileSources } from '../../os/transpile.js';
import { ip, Namespaces, uniqueName } from './netns.js';

const EINVAL = 22;
const namespaces = new Namespaces();
const tuns: TunDevice[] = [];
let built: Transpiled;

beforeAll(() => {
  built = transpileSources();
});
afterEach(() => {
  for (const tun of tuns.splice(0)) tun.close();
  namespaces.removeAll();
});
afterAll(() => built.remove());

const SIZE = 16 << 20;
/** A sender and a receiver of 16 MiB with a known content; the receiver prints how much came, and its digest. */
const SERVER = `const h=require('crypto').createHash('sha256');let n=0;
require('net').createServer((s)=>{s.on('data',(d)=>{n+=d.length;h.update(d);}).on('end',()=>{console.log(JSON.stringify([n,h.digest('hex')]));s.end();process.exit(0);});})
.listen(5001,process.argv[1],()=>console.error('listening'));`;
const CLIENT = `const b=Buffer.alloc(${SIZE});for(let i=0;i<b.length;i++)b[i]=(i*31)^(i>>>8);
const s=require('net').connect(5001,process.argv[1],()=>s.end(b));s.on('close',()=>console.log(JSON.stringify(require('crypto').createHash('sha256').update(b).digest('hex'))));s.resume();`;

interface Pump {
  readonly reactor: EpollReactor;
  readonly done: Promise<void>;
  superPackets: number;
  packets: number;
  failures: number;
}

/** How a packet is written: whole, or in two parts, what it carries lying in a large buffer, in one of its own, or in many pieces. */
const KINDS = ['whole', 'from a large buffer', 'from an array', 'from pieces'] as const;
const HEAD = 50;
const aside = new Uint8Array(70_000);
let turn = 0;

function writeAs(kind: (typeof KINDS)[number], tun: TunDevice, memory: DeviceMemory, length: number): number {
  const cut = Math.min(HEAD, length);
  if (kind === 'whole') return tun.write(memory, 0, length);
  if (kind === 'from an array') {
    const own = new Uint8Array(length).subarray(0, length - cut);
    own.set(memory.bytes.subarray(cut, length));
    memory.bytes.fill(0, cut, length);
    return tun.writeParts(memory, 0, cut, own, 0, own.length);
  }
  if (kind === 'from pieces') return writePieces(tun, memory, cut, length);
  aside.set(memory.bytes.subarray(cut, length), 7);
  return tun.writeParts(memory, 0, cut, aside, 7, length - cut);
}

const pieces = new Uint32Array(MOST_PIECES * 2);
const scattered = new Uint8Array(140_000);
const registered = new WeakMap<TunDevice, DeviceMemory>();

/** The payload in the order of the packet, but its pieces with the later ones first in memory. */
function writePieces(tun: TunDevice, memory: DeviceMemory, cut: number, length: number): number {
  const payload = registered.get(tun) ?? tun.register(scattered);
  registered.set(tun, payload);
  const size = Math.max(1, Math.ceil((length - cut) / MOST_PIECES));
  let count = 0;
  for (let at = cut; at < length; at += size) {
    const end = Math.min(at + size, length);
    const place = scattered.length - (count + 1) * (size + 1);
    scattered.set(memory.bytes.subarray(at, end), place);
    pieces[count * 2] = place;
    pieces[count * 2 + 1] = end - at;
    count++;
  }
  memory.bytes.fill(0, cut, length);
  return tun.writeGathered(memory, 0, cut, payload, pieces, count);
}

/** Two TUN devices in two namespaces, each device's packets written to the other as they are. */
function connectTuns(offload: boolean): { a: string; b: string; pump: Pump } {
  const reactor = createReactor({ onError: (error) => expect.unreachable(String(error)) });
  const pump: Pump = { reactor, done: Promise.resolve(), superPackets: 0, packets: 0, failures: 0 };
  const spaces = [namespaces.create(), namespaces.create()];
  const ends = spaces.map((space, i) => {
    const tun = openTun({ name: uniqueName(), offload });
    tuns.push(tun);
    ip('link', 'set', tun.name, 'netns', space);
    ip('-n', space, 'address', 'add', `10.77.0.${i + 1}/24`, 'dev', tun.name);
    ip('-n', space, 'address', 'add', `fd77::${i + 1}/64`, 'dev', tun.name, 'nodad');
    ip('-n', space, 'link', 'set', tun.name, 'mtu', '1280', 'txqueuelen', '4000', 'up');
    return { tun, memory: tun.register(new Uint8Array(65_536 + VNET_HEADER_SIZE)) };
  });
  ends.forEach(({ tun, memory }, i) => {
    const other = ends[1 - i]!.tun;
    reactor.watch(tun.fd, READABLE, () => {
      for (let budget = 64; budget > 0; budget--) {
        const length = tun.read(memory, 0, memory.bytes.length);
        if (length <= 0) {
          if (length < 0) pump.failures++;
          return;
        }
        pump.packets++;
        if (offload && memory.bytes[1] !== 0) pump.superPackets++;
        const kind = KINDS[turn++ % KINDS.length]!;
        if (writeAs(kind, other, memory, length) !== length) pump.failures++;
      }
    });
  });
  return { a: spaces[0]!, b: spaces[1]!, pump: Object.assign(pump, { done: reactor.run() }) };
}

describe.each([true, false])('two TUN devices (offload %s)', (offload) => {
  it('carry ping and TCP of both families', async () => {
    const { a, b, pump } = connectTuns(offload);
    for (const address of ['10.77.0.2', 'fd77::2']) {
      const ping = namespaces.spawn(a, 'ping', '-c', '3', '-i', '0.01', '-W', '5', address);
      expect(await ping.ended).toBe(0);
      expect(ping.stdout).toContain('3 received');
      const server = namespaces.spawn(b, process.execPath, '-e', SERVER, address);
      while (!server.stderr.includes('listening')) await new Promise((resolve) => setTimeout(resolve, 5));
      const sent = await namespaces.spawn(a, process.execPath, '-e', CLIENT, address).json();
      expect(await server.json()).toEqual([SIZE, sent]);
    }
    pump.reactor.stop();
    await pump.done;
    expect(pump.failures).toBe(0);
    // With offload the kernel hands over what it would otherwise have cut into more than 26,000 packets.
    if (offload) {
      expect(pump.superPackets).toBeGreaterThan(100);
      expect(pump.packets).toBeLessThan((2 * SIZE) / 1280 / 2);
    } else expect(pump.packets).toBeGreaterThan((2 * SIZE) / 1280);
  });
});

describe('a TUN device', () => {
  it('tells its name when the kernel chose it, and whether UDP segmentation is on', () => {
    const tun = openTun({ name: 'ox%d', offload: true });
    tuns.push(tun);
    expect(tun.name).toMatch(/^ox\d+$/);
    expect(tun.udpOffload).toBe(true);
    const plain = openTun({ name: uniqueName(), offload: false });
    tuns.push(plain);
    expect(plain.udpOffload).toBe(false);
  });

  it('has nothing to read at first, and refuses what is not a packet', () => {
    const tun = createLinuxSockets().tun({ name: uniqueName(), offload: false });
    tuns.push(tun);
    ip('link', 'set', tun.name, 'up');
    const memory = tun.register(new Uint8Array(100));
    // IPv6 may announce itself on a new device: those packets are taken first.
    while (tun.read(memory, 0, 100) > 0);
    expect(tun.read(memory, 0, 100)).toBe(0);
    memory.bytes.fill(0);
    expect(tun.write(memory, 0, 20)).toBe(-EINVAL);
  });

  it('cannot be opened twice under one name', () => {
    const tun = openTun({ name: uniqueName(), offload: true });
    tuns.push(tun);
    expect(() => openTun({ name: tun.name, offload: true })).toThrow(
      expect.objectContaining({ code: 'TUN_BUSY', kind: 'environment' }),
    );
    expect(() => openTun({ name: 'lo', offload: true })).toThrow(expect.objectContaining({ code: 'TUN_BUSY' }));
    tun.close();
    tun.close();
    tuns.push(openTun({ name: tun.name, offload: true }));
  });

  it.each(['', 'sixteen-letters-', 'a/b', 'a b'])('cannot be named "%s"', (name) => {
    expect(() => openTun({ name, offload: true })).toThrow(
      expect.objectContaining({ code: 'TUN_NAME', kind: 'caller' }),
    );
  });

  it('needs permission', async () => {
    const script = built.add(
      'no-permission.js',
      `import { openTun } from './os/linux/tun.js';
       process.setgroups([]); process.setgid(65534); process.setuid(65534);
       try { openTun({ name: 'ox-none', offload: true }); console.log('{}'); }
       catch (error) { console.log(JSON.stringify({ code: error.code, kind: error.kind, hint: error.hint !== undefined })); }`,
    );
    const space = namespaces.create();
    expect(await namespaces.spawn(space, process.execPath, script.pathname).json()).toEqual({
      code: 'TUN_NOT_PERMITTED',
      kind: 'environment',
      hint: true,
    });
  });

  it('goes with its process, addresses and routes included, when that is killed', async () => {
    const script = built.add(
      'holder.js',
      `import { openTun } from './os/linux/tun.js';
       import { createNetwork } from './os/linux/network.js';
       const tun = openTun({ name: 'ox-held', offload: true });
       const network = createNetwork({ journal: process.argv[2] });
       network.linkUp(tun.name, 1280, 4000);
       network.addAddress(tun.name, '10.78.0.1', 32);
       network.addAddress(tun.name, 'fd78::1', 128);
       network.addRoute(tun.name, '10.79.0.0/16', '10.78.0.1');
       network.addRoute(tun.name, 'fd79::/32');
       console.log('up');
       setInterval(() => tun, 1000);`,
    );
    const space = namespaces.create();
    const journal = built.url('holder.journal').pathname;
    const program = namespaces.spawn(space, process.execPath, script.pathname, journal);
    await program.says('up');
    expect(ip('-n', space, 'route', 'show')).toContain('10.79.0.0/16 dev ox-held proto 83');
    expect(ip('-n', space, 'link', 'show', 'ox-held')).toMatch(/mtu 1280 .*qlen 4000/);
    process.kill(program.child.pid!, 'SIGKILL');
    expect(await program.ended).toBe('SIGKILL');
    expect(ip('-n', space, 'link', 'show')).not.toContain('ox-held');
    expect(ip('-n', space, 'route', 'show')).toBe('');
    expect(ip('-n', space, '-6', 'route', 'show')).not.toContain('fd79');
    // The next start finds the journal, and nothing left to undo.
    const next = namespaces.spawn(space, process.execPath, script.pathname, journal);
    await next.says('up');
  });
});
