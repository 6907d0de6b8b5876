/**
 * A TUN device: IP packets to and from the kernel through a descriptor. Never persistent: the kernel removes the device,
 * with its addresses and routes, when the descriptor closes, also when the process is killed.
 *
 *   with offload:  virtio_net_hdr (10 bytes) · IP packet up to 64 KiB, segments not yet cut, checksums not yet summed
 *   without:       IP packet
 *
 * <linux/if_tun.h>, <linux/virtio_net.h>. Which segmentation the kernel may leave to us is asked with TUNSETOFFLOAD; UDP
 * segmentation (USO) exists since Linux 6.2.
 */
import { SallyportError } from '../../base/error.js';
import { MOST_PIECES } from '../../wire/gro-flow.js';
import { type DeviceMemory, EAGAIN, type IoResult, type TunDevice, type TunOptions, VNET_HEADER_SIZE } from '../io.js';
import {
  EACCES,
  EBUSY,
  EINVAL,
  ENODEV,
  ENOENT,
  ENXIO,
  EPERM,
  IFF_NO_PI,
  IFF_TUN,
  IFF_VNET_HDR,
  O_CLOEXEC,
  O_NONBLOCK,
  O_RDWR,
  TUN_F_CSUM,
  TUN_F_TSO4,
  TUN_F_TSO6,
  TUN_F_USO4,
  TUN_F_USO6,
  TUNSETIFF,
  TUNSETOFFLOAD,
  TUNSETVNETHDRSZ,
} from './constants.js';
import { check, close, errno, errnoName, ioctl, open, read, result, write, writev } from './libc.js';
import { lastingAddress, NativeMemory, putPointer } from './memory.js';
import { copy } from './scratch.js';

const DEVICE_PATH = '/dev/net/tun';
/** IFNAMSIZ of <linux/if.h>, with its terminating zero. */
const NAME_SIZE = 16;
/** `struct iovec`: address u64 · length u64. */
const VECTOR_BYTES = 16;
const VECTOR_WORDS = VECTOR_BYTES / 4;
/** Headers, and what they carry in as many pieces as a packet may have. */
const VECTORS = 1 + MOST_PIECES;
/** The two of a packet in two parts. */
const PARTS = 2;
/** `struct ifreq`: name[16] · flags u16 · padding. */
const IFREQ_SIZE = 40;

const BASE_OFFLOAD = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
const UDP_OFFLOAD = TUN_F_USO4 | TUN_F_USO6;

/** @throws SallyportError TUN_NOT_PERMITTED, TUN_BUSY, TUN_NOT_AVAILABLE (environment), TUN_NAME (caller) */
export function openTun(options: TunOptions): TunDevice {
  return new TunFile(options);
}

class TunFile implements TunDevice {
  readonly fd: number;
  readonly name: string;
  readonly offload: boolean;
  readonly udpOffload: boolean;
  readonly #vectors = NativeMemory.allocate(VECTORS * VECTOR_BYTES);
  readonly #vectorWords = this.#vectors.words();
  #open = true;

  constructor(options: TunOptions) {
    const request = interfaceRequest(options);
    this.offload = options.offload;
    this.fd = open(DEVICE_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (this.fd < 0) throw tunError(errno(), options.name);
    try {
      if (ioctl(this.fd, TUNSETIFF, request.address) < 0) throw tunError(errno(), options.name);
      this.name = Buffer.from(request.bytes.subarray(0, NAME_SIZE)).toString('latin1').replace(/\0.*$/s, '');
      this.udpOffload = this.offload && this.#enableOffload();
    } catch (error) {
      close(this.fd);
      throw error;
    }
  }

  read(target: DeviceMemory, offset: number, length: number): IoResult {
    const got = read(this.fd, (target as NativeMemory).address + offset, length);
    if (got >= 0) return got;
    const code = result(got);
    return code === -EAGAIN ? 0 : code;
  }

  write(source: DeviceMemory, offset: number, length: number): IoResult {
    return result(write(this.fd, (source as NativeMemory).address + offset, length));
  }

  writeParts(
    source: DeviceMemory,
    offset: number,
    length: number,
    payload: Uint8Array,
    payloadOffset: number,
    payloadLength: number,
  ): IoResult {
    const address = lastingAddress(payload);
    if (address === 0) {
      copy(payload, payloadOffset, source.bytes, offset + length, payloadLength);
      return this.write(source, offset, length + payloadLength);
    }
    const words = this.#vectorWords;
    putPointer(words, 0, (source as NativeMemory).address + offset);
    putPointer(words, 2, length);
    putPointer(words, 4, address + payloadOffset);
    putPointer(words, 6, payloadLength);
    return result(writev(this.fd, this.#vectors.address, PARTS));
  }

  writeGathered(
    source: DeviceMemory,
    offset: number,
    length: number,
    payload: DeviceMemory,
    pieces: Uint32Array,
    count: number,
  ): IoResult {
    const words = this.#vectorWords;
    const { address } = payload as NativeMemory;
    putPointer(words, 0, (source as NativeMemory).address + offset);
    putPointer(words, 2, length);
    for (let i = 0, at = VECTOR_WORDS; i < count * 2; i += 2, at += VECTOR_WORDS) {
      putPointer(words, at, address + pieces[i]!);
      putPointer(words, at + 2, pieces[i + 1]!);
    }
    return result(writev(this.fd, this.#vectors.address, count + 1));
  }

  register(memory: Uint8Array): DeviceMemory {
    return new NativeMemory(memory);
  }

  close(): void {
    if (this.#open) close(this.fd);
    this.#open = false;
  }

  /** Returns whether UDP segmentation is among what the kernel accepted. */
  #enableOffload(): boolean {
    const size = NativeMemory.allocate(8);
    size.ints()[0] = VNET_HEADER_SIZE;
    check(ioctl(this.fd, TUNSETVNETHDRSZ, size.address), 'setting the virtio-net header size', 'TUN_NOT_AVAILABLE');
    if (ioctl(this.fd, TUNSETOFFLOAD, BASE_OFFLOAD | UDP_OFFLOAD) === 0) return true;
    check(ioctl(this.fd, TUNSETOFFLOAD, BASE_OFFLOAD), 'enabling TUN offload', 'TUN_NOT_AVAILABLE');
    return false;
  }
}

function interfaceRequest(options: TunOptions): NativeMemory {
  const name = Buffer.from(options.name, 'latin1');
  if (name.length === 0 || name.length >= NAME_SIZE || !/^[\w.%-]+$/.test(options.name)) {
    throw new SallyportError('caller', 'TUN_NAME', `"${options.name}" cannot be the name of a network interface`, {
      hint: 'at most 15 letters, digits, dots, dashes and underscores',
    });
  }
  const request = NativeMemory.allocate(IFREQ_SIZE);
  request.bytes.set(name);
  new DataView(request.bytes.buffer).setUint16(
    NAME_SIZE,
    IFF_TUN | IFF_NO_PI | (options.offload ? IFF_VNET_HDR : 0),
    true,
  );
  return request;
}

function tunError(code: number, name: string): SallyportError {
  switch (code) {
    case EPERM:
    case EACCES:
      return new SallyportError('environment', 'TUN_NOT_PERMITTED', `not permitted to create the interface ${name}`, {
        hint: 'run as root or with CAP_NET_ADMIN, or use the proxy mode, which needs no TUN device',
      });
    case EBUSY:
      return new SallyportError('environment', 'TUN_BUSY', `the interface ${name} is in use by another program`, {
        hint: 'stop the other program or choose another name',
      });
    case EINVAL:
      return new SallyportError('environment', 'TUN_BUSY', `there is another kind of interface named ${name}`, {
        hint: 'choose another name',
      });
    case ENOENT:
    case ENODEV:
    case ENXIO:
      return new SallyportError('environment', 'TUN_NOT_AVAILABLE', `${DEVICE_PATH} does not exist`, {
        hint: 'load the kernel module: modprobe tun',
      });
    default:
      return new SallyportError('environment', 'TUN_FAILED', `creating the interface ${name}: ${errnoName(code)}`);
  }
}
