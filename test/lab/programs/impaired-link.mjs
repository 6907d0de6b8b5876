/**
 * A bad cable: two TUN devices, `left` and `right`, and between them what impairment.mjs decides. The laboratory moves the devices
 * into the hosts that the cable joins. One loop of its own over ppoll(2); libuv's never runs.
 *
 * While a direction does nothing but delay, what one host would have cut into packets for a faster device (segmentation offload)
 * crosses whole, or a cable could not carry some hundred megabits a second; as soon as the fate of single packets matters they
 * come one by one. A device has one setting for what comes out of it, so each direction has its own.
 *
 *   standard input, a line each:   {"seed": N, "left": PROFILE, "right": PROFILE}   left = what comes out of `left`, to `right`
 *                                  {"stats": true}
 *   standard output, a line each:  ready · profile N (N-th change) · {"left": {…}, "right": {…}}
 */
import { readSync, writeSync } from 'node:fs';
import koffi from 'koffi';
import { Impairment, WaitingPackets } from './impairment.mjs';

const O_RDWR_NONBLOCK = 0o4002;
const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const IFF_TUN_NO_PI_VNET_HDR = 0x5001;
/** Checksums, TCP and UDP segments of both families, with ECN. */
const ALL_OFFLOADS = 0x6f;
/** What stands before each packet: virtio's header without the count of buffers. */
const VNET_HEADER = 10;
const IFREQ_SIZE = 40;
const POLLIN = 1;
const POLL_ENTRY = 8;
const LARGEST_READ = VNET_HEADER + 65_536;
/** Packets taken from one device before the other, and the clock, are looked at again. */
const BATCH = 64;

const libc = koffi.load('libc.so.6');
const open = libc.func('int open(const char *path, int flags)');
const ioctl = libc.func('int ioctl(int fd, unsigned long request, void *argument)');
const setOffload = libc.func('int ioctl(int fd, unsigned long request, unsigned long argument)');
const read = libc.func('int read(int fd, void *buffer, size_t size)');
const write = libc.func('int write(int fd, void *buffer, size_t size)');
const ppoll = libc.func('int ppoll(void *entries, unsigned long count, void *timeout, void *mask)');

const devices = [openTun('left'), openTun('right')];
const directions = [new Impairment(1, {}), new Impairment(2, {})];
const waiting = new WaitingPackets();
const incoming = Buffer.alloc(LARGEST_READ);
const entries = Buffer.alloc(3 * POLL_ENTRY);
const timeout = Buffer.alloc(16);
[0, ...devices].forEach((fd, index) => {
  entries.writeInt32LE(fd, index * POLL_ENTRY);
  entries.writeInt16LE(POLLIN, index * POLL_ENTRY + 4);
});
let commands = '';
let changes = 0;

writeSync(1, 'ready\n');
for (;;) {
  const pause = waiting.next - performance.now();
  if (pause > 0) {
    const nanoseconds = Math.min(pause, 1000) * 1e6;
    timeout.writeBigInt64LE(BigInt(Math.floor(nanoseconds / 1e9)), 0);
    timeout.writeBigInt64LE(BigInt(Math.floor(nanoseconds % 1e9)), 8);
    ppoll(entries, 3, timeout, null);
  } else {
    timeout.fill(0);
    ppoll(entries, 3, timeout, null);
  }
  if (entries.readInt16LE(6) !== 0) takeCommands();
  for (const side of [0, 1]) {
    if (entries.readInt16LE((side + 1) * POLL_ENTRY + 6) !== 0) drain(side);
  }
  const now = performance.now();
  while (waiting.next <= now) {
    const packet = waiting.pop();
    if (packet !== undefined) write(devices[packet.to], packet.bytes, packet.bytes.length);
  }
}

/** @param {number} side */
function drain(side) {
  const direction = /** @type {Impairment} */ (directions[side]);
  for (let count = 0; count < BATCH; count++) {
    const length = read(devices[side], incoming, LARGEST_READ);
    if (length <= VNET_HEADER) return;
    const copies = direction.offer(performance.now(), length - VNET_HEADER);
    if (copies === 0) continue;
    const bytes = Uint8Array.prototype.slice.call(incoming, 0, length);
    for (let copy = 0; copy < copies; copy++) waiting.push(Number(direction.releases[copy]), 1 - side, bytes);
  }
}

function takeCommands() {
  const piece = Buffer.alloc(LARGEST_READ);
  const length = readSync(0, piece);
  // The laboratory has gone.
  if (length === 0) process.exit(0);
  commands += piece.toString('utf8', 0, length);
  const lines = commands.split('\n');
  commands = lines.pop() ?? '';
  for (const line of lines) {
    const command = JSON.parse(line);
    if (command.stats === true) {
      writeSync(1, `${JSON.stringify({ left: directions[0]?.counters, right: directions[1]?.counters })}\n`);
      continue;
    }
    ['left', 'right'].forEach((name, index) => {
      const direction = /** @type {Impairment} */ (directions[index]);
      if (command.seed !== undefined) direction.state = (command.seed + index) >>> 0;
      if (command[name] === undefined) return;
      direction.profile = command[name];
      setOffload(devices[index], TUNSETOFFLOAD, treatsAllAlike(command[name]) ? ALL_OFFLOADS : 0);
    });
    writeSync(1, `profile ${++changes}\n`);
  }
}

/** @param {import('./impairment.mjs').Profile} profile */
function treatsAllAlike(profile) {
  return Object.entries(profile).every(([key, value]) => key === 'delay' || value === 0 || value === false);
}

/** @param {string} name */
function openTun(name) {
  const fd = open('/dev/net/tun', O_RDWR_NONBLOCK);
  const request = Buffer.alloc(IFREQ_SIZE);
  request.write(name, 'latin1');
  request.writeUInt16LE(IFF_TUN_NO_PI_VNET_HDR, 16);
  if (fd < 0 || ioctl(fd, TUNSETIFF, request) !== 0)
    throw new Error(`cannot open a TUN device ${name}: errno ${koffi.errno()}`);
  return fd;
}
