/**
 * A UDP socket of one address family that moves batches: recvmmsg with UDP_GRO, sendmmsg with UDP_SEGMENT, the local
 * address of every datagram in both directions, and the don't-fragment bit on everything. Packet-size discovery belongs to
 * QUIC (RFC 9000 §14): the kernel neither fragments nor caps by what it believes of the path (IP_PMTUDISC_PROBE).
 */
import type { SocketAddress } from '../../base/address.js';
import type { IoResult, TransmitMemory, UdpBatch, UdpCapabilities, UdpCounters, UdpOptions, UdpSocket } from '../io.js';
import {
  EADDRINUSE,
  IP_MTU_DISCOVER,
  IP_PKTINFO,
  IP_PMTUDISC_PROBE,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_UDP,
  IPV6_DONTFRAG,
  IPV6_MTU_DISCOVER,
  IPV6_RECVPKTINFO,
  IPV6_V6ONLY,
  SOCK_DGRAM,
  UDP_GRO,
  UDP_SEGMENT,
} from './constants.js';
import { NativeMemory } from './memory.js';
import { localAddress } from './sockaddr.js';
import { bindSocket, closeSocket, openSocket, requireOption, setBuffers, setSendRoom, tryOption } from './socket.js';
import { UdpReceiver } from './udp-receive.js';
import { UdpSender } from './udp-send.js';

/** Asked for in both directions, in bytes: 13 ms at 5 Gbit/s. Without privileges net.core.{r,w}mem_max limits it. */
const DEFAULT_BUFFER_BYTES = 8 << 20;
/** Entries of a receive batch: with coalescing 16 entries hold up to 1024 datagrams. */
const DEFAULT_BATCH = 16;
/** Room of one entry: the largest UDP payload (65,527 bytes), and the largest coalesced buffer. */
const DEFAULT_ENTRY_BYTES = 65_536;

/** @throws SallyportError ADDRESS_IN_USE, ADDRESS_NOT_AVAILABLE, FAMILY_NOT_SUPPORTED … (environment) */
export function openUdp(local: SocketAddress, options: UdpOptions = {}): UdpSocket {
  return new LinuxUdpSocket(local, options);
}

class LinuxUdpSocket implements UdpSocket {
  readonly fd: number;
  readonly local: SocketAddress;
  readonly counters: UdpCounters = {
    datagramsIn: 0,
    datagramsOut: 0,
    bytesIn: 0,
    bytesOut: 0,
    sendBlocked: 0,
    sendFailed: 0,
    receiveErrors: 0,
  };
  readonly #receiver: UdpReceiver;
  readonly #sender: UdpSender;
  readonly #receiveOffload: boolean;
  readonly #dontFragment: boolean;
  #open = true;

  constructor(local: SocketAddress, options: UdpOptions) {
    const v4 = local.ip.isV4;
    this.fd = openSocket(v4, SOCK_DGRAM, IPPROTO_UDP);
    try {
      if (!v4) requireOption(this.fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
      this.#dontFragment = v4
        ? tryOption(this.fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        : tryOption(this.fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_PROBE) &&
          tryOption(this.fd, IPPROTO_IPV6, IPV6_DONTFRAG, 1);
      if (v4) requireOption(this.fd, IPPROTO_IP, IP_PKTINFO, 1);
      else requireOption(this.fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
      setBuffers(this.fd, options.bufferBytes ?? DEFAULT_BUFFER_BYTES);
      const offload = options.offload ?? true;
      this.#receiveOffload = offload && tryOption(this.fd, IPPROTO_UDP, UDP_GRO, 1);
      // Size 0 asks for nothing, but an unknown option is refused: the cheapest way to learn whether the kernel knows it.
      const segmentation = offload && tryOption(this.fd, IPPROTO_UDP, UDP_SEGMENT, 0);
      bindSocket(this.fd, local, options.anyPortIfTaken === true ? EADDRINUSE : undefined);
      this.local = localAddress(this.fd);
      this.#receiver = new UdpReceiver(
        this.local,
        this.counters,
        options.batch ?? DEFAULT_BATCH,
        options.entryBytes ?? DEFAULT_ENTRY_BYTES,
      );
      const keepsUnsent = options.keepsUnsent ?? false;
      this.#sender = new UdpSender(this.fd, this.local, this.counters, segmentation, keepsUnsent);
    } catch (error) {
      closeSocket(this.fd);
      throw error;
    }
  }

  get capabilities(): UdpCapabilities {
    return {
      batch: true,
      segmentationOffload: this.#sender.segmentation,
      receiveOffload: this.#receiveOffload,
      dontFragment: this.#dontFragment,
      sourceAddress: true,
    };
  }

  get rx(): UdpBatch {
    return this.#receiver;
  }

  receive(): IoResult {
    return this.#receiver.receive(this.fd);
  }

  send(
    memory: TransmitMemory,
    offset: number,
    length: number,
    segment: number,
    addresses: Uint32Array,
    index: number,
    sources?: Uint32Array,
    sourceIndex = 0,
  ): void {
    this.#sender.send(memory as NativeMemory, offset, length, segment, addresses, index, sources, sourceIndex);
  }

  flush(isPatient = true): void {
    this.#sender.flush(isPatient);
  }

  get isBlocked(): boolean {
    return this.#sender.isBlocked;
  }

  get waits(): number {
    return this.#sender.waits;
  }

  giveUp(): void {
    this.#sender.giveUp();
  }

  setSendRoom(bytes: number): void {
    setSendRoom(this.fd, bytes);
  }

  registerTransmit(memory: Uint8Array): TransmitMemory {
    return new NativeMemory(memory);
  }

  close(): void {
    if (this.#open) closeSocket(this.fd);
    this.#open = false;
  }
}
