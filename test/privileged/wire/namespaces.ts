/**
 * Namespaces, TUN devices and programs of these tests. A device is made in the test's own namespace and moved; its
 * descriptor goes on working. Names begin with `wr-` and hold the process id; `removeAll` takes everything away.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { DeviceMemory, TunDevice } from '../../../src/os/io.js';
import { openTun } from '../../../src/os/linux/tun.js';
import { Arena } from '../../../src/wire/arena.js';

let counter = 0;

export function ip(...args: string[]): string {
  return execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

export class Bench {
  readonly #names: string[] = [];
  readonly #children: ChildProcess[] = [];
  readonly #devices: Device[] = [];

  namespace(): string {
    const name = `wr-${process.pid % 100_000}-${counter++}`;
    ip('netns', 'add', name);
    this.#names.push(name);
    ip('-n', name, 'link', 'set', 'lo', 'up');
    return name;
  }

  /** A TUN device in a namespace with an IPv4 and an IPv6 address (each with its prefix length). */
  device(namespace: string, offload: boolean, v4: string, v6: string): Device {
    const device = new Device(`wr-${process.pid % 100_000}-${counter++}`, offload);
    this.#devices.push(device);
    ip('link', 'set', device.name, 'netns', namespace);
    ip('-n', namespace, 'addr', 'add', v4, 'dev', device.name);
    ip('-n', namespace, 'addr', 'add', v6, 'dev', device.name, 'nodad');
    ip('-n', namespace, 'link', 'set', device.name, 'up', 'mtu', '1500');
    return device;
  }

  /** Runs a Node program given as text; the promise is its standard output, and fails when it fails. */
  node(namespace: string, program: string): Promise<string> {
    const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, '-e', program], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#children.push(child);
    let out = '';
    let err = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      err += text;
    });
    return new Promise((resolve, reject) => {
      child.on('close', (code) => (code === 0 ? resolve(out) : reject(new Error(`ended with ${code}: ${out} ${err}`))));
    });
  }

  sysctl(namespace: string, ...settings: string[]): void {
    execFileSync('ip', ['netns', 'exec', namespace, 'sysctl', '-qw', ...settings]);
  }

  /** A counter of /proc/net/snmp in a namespace, such as `Tcp` `InCsumErrors`. */
  counter(namespace: string, group: string, name: string): number {
    const text = execFileSync('ip', ['netns', 'exec', namespace, 'cat', '/proc/net/snmp'], { encoding: 'utf8' });
    const [names, values] = text
      .split('\n')
      .filter((line) => line.startsWith(`${group}: `))
      .map((line) => line.split(' '));
    return Number(values![names!.indexOf(name)]);
  }

  removeAll(): void {
    for (const child of this.#children.splice(0)) if (child.exitCode === null) child.kill('SIGKILL');
    for (const device of this.#devices.splice(0)) device.close();
    for (const name of this.#names.splice(0)) ip('netns', 'del', name);
  }
}

/** Bytes before a packet that `Device.read` leaves free; the virtio-net header ends where the packet begins. */
export const ROOM = 12;
const VNET = 10;

/** A TUN device and memory to read into: packets begin at `ROOM`. */
export class Device {
  readonly tun: TunDevice;
  readonly arena = new Arena(ROOM + 65_536);
  readonly #memory: DeviceMemory;
  readonly #registered = new Map<Uint8Array, DeviceMemory>();

  constructor(name: string, offload: boolean) {
    this.tun = openTun({ name, offload });
    this.#memory = this.tun.register(this.arena.bytes);
  }

  get name(): string {
    return this.tun.name;
  }

  /** Length of the next packet (without its virtio-net header), 0 when none waits. */
  read(): number {
    const room = this.tun.offload ? VNET : 0;
    const got = this.tun.read(this.#memory, ROOM - room, this.arena.size - ROOM + room);
    if (got < 0) throw new Error(`read failed: ${got}`);
    return got === 0 ? 0 : got - room;
  }

  /** Writes a packet; with offload `offset` is where its virtio-net header begins and `length` includes it. */
  write(bytes: Uint8Array, offset: number, length: number): void {
    let memory = this.#registered.get(bytes);
    if (memory === undefined) {
      memory = this.tun.register(bytes);
      this.#registered.set(bytes, memory);
    }
    const put = this.tun.write(memory, offset, length);
    if (put !== length) throw new Error(`wrote ${put} of ${length}`);
  }

  close(): void {
    this.tun.close();
  }
}

/** Lets the event loop turn, so that children's output and ends are seen. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export const isRoot = process.getuid?.() === 0 && readFileSync('/proc/misc', 'utf8').includes(' tun\n');
