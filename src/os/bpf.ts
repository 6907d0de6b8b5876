/**
 * Classic BPF programs (`struct sock_filter`) for the packets a trace waits for, generated from a filter spec.
 *
 *   instruction (8 bytes, host order):  code u16 · jt u8 · jf u8 · k u32
 *
 * All offsets count from the IP header, plus `linkHeader` where the system hands over link-layer headers: 0 for Linux packet
 * sockets of type SOCK_DGRAM (Ethernet, TUN, WireGuard and loopback then look alike), 14 for Ethernet, 4 for a null header. The
 * family is told by the version nibble, so that nothing depends on the link layer. A filter only spares work: whoever reads
 * the packets judges every field again.
 *
 *   version nibble ─► 4 ─► protocol ─────────► ICMP ► accept      TCP, UDP ─► not a later fragment ─► what the spec asks for
 *                  └► 6 ─► next header ──────► ICMPv6 ► accept    (also behind a Fragment header)
 *                  └► else ► reject
 *
 * McCanne and Jacobson, "The BSD Packet Filter" (1993); <linux/filter.h>; RFC 791, RFC 8200, RFC 9293.
 */
import type { SocketAddress } from '../base/address.js';
import { PROTO_FRAGMENT, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP } from '../wire/ip.js';
import { TCP_ACK, TCP_SYN } from '../wire/tcp.js';
import type { FilterSpec } from './packet-io.js';

/** Bytes of one instruction. */
export const INSTRUCTION_BYTES = 8;
/** What the kernel takes (BPF_MAXINSNS). */
export const INSTRUCTIONS_MAX = 4096;
/** What an accepting program returns: more bytes than any packet has. */
const WHOLE_PACKET = 262_144;

// <linux/bpf_common.h>: class | size | mode, and class | operation | source
const LOAD_BYTE = 0x30;
const LOAD_HALF = 0x28;
const LOAD_WORD = 0x20;
const LOAD_BYTE_X = 0x50;
const LOAD_HALF_X = 0x48;
/** X = 4 × (low nibble of a byte): the length of an IPv4 header. */
const LOAD_X_HEADER_LENGTH = 0xb1;
const AND = 0x54;
const JUMP = 0x05;
const JUMP_EQUAL = 0x15;
const JUMP_SET = 0x45;
const RETURN = 0x06;

const FRAGMENT_OFFSET_MASK = 0x1fff;
const IPV6_TRANSPORT = 40;
/** Where the flags of a TCP header are. */
const TCP_FLAGS = 13;

/** The program for `spec`; for `none` there is none (the filter is then taken off). */
export function filterProgram(spec: FilterSpec, linkHeader = 0): Uint8Array | undefined {
  if (spec.kind === 'none') return undefined;
  const program = new Assembler();
  if (spec.kind !== 'nothing') families(program, spec, linkHeader);
  program.place('reject');
  program.add(RETURN, 0);
  return program.finish();
}

function families(program: Assembler, spec: FilterSpec, base: number): void {
  program.add(LOAD_BYTE, base);
  program.add(AND, 0xf0);
  program.branch(JUMP_EQUAL, 0x60, 'v6', undefined);
  program.branch(JUMP_EQUAL, 0x40, undefined, 'reject');
  transport(program, spec, base, 4);
  program.place('v6');
  transport(program, spec, base, 6);
  if (spec.kind !== 'ports') return;
  program.place('ports');
  for (const port of spec.ports) {
    program.branch(JUMP_EQUAL, port, undefined, `after ${port}`);
    program.add(RETURN, WHOLE_PACKET);
    program.place(`after ${port}`);
  }
}

/** Decides about packets of one family; falls through to nothing: every way ends in accept or reject. */
function transport(program: Assembler, spec: FilterSpec, base: number, family: 4 | 6): void {
  const inner = `transport ${family}`;
  const accept = `accept ${family}`;
  program.add(LOAD_BYTE, base + (family === 4 ? 9 : 6));
  if (spec.kind !== 'syn-ack') program.branch(JUMP_EQUAL, family === 4 ? PROTO_ICMP : PROTO_ICMPV6, accept, undefined);
  if (spec.kind === 'udp') program.branch(JUMP_EQUAL, PROTO_UDP, accept, undefined);
  if (spec.kind === 'ports') program.branch(JUMP_EQUAL, PROTO_UDP, inner, undefined);
  if (spec.kind !== 'icmp' && spec.kind !== 'udp') program.branch(JUMP_EQUAL, PROTO_TCP, inner, undefined);
  if (family === 4 || spec.kind === 'syn-ack') program.jump('reject');
  else {
    program.branch(JUMP_EQUAL, PROTO_FRAGMENT, undefined, 'reject');
    program.add(LOAD_BYTE, base + IPV6_TRANSPORT);
    program.branch(JUMP_EQUAL, PROTO_ICMPV6, accept, undefined);
    if (spec.kind === 'udp') program.branch(JUMP_EQUAL, PROTO_UDP, accept, undefined);
    program.jump('reject');
  }
  program.place(inner);
  if (family === 4 && spec.kind !== 'icmp' && spec.kind !== 'udp') {
    program.add(LOAD_HALF, base + 6);
    program.branch(JUMP_SET, FRAGMENT_OFFSET_MASK, 'reject', undefined);
    program.add(LOAD_X_HEADER_LENGTH, base);
  }
  if (spec.kind === 'ports') {
    loadTransport(program, base, family, 2, 'half');
    program.jump('ports');
  } else if (spec.kind === 'tcp') tuple(program, base, family, spec.source, spec.destination);
  else if (spec.kind === 'syn-ack') {
    loadTransport(program, base, family, TCP_FLAGS, 'byte');
    program.add(AND, TCP_SYN | TCP_ACK);
    program.branch(JUMP_EQUAL, TCP_SYN | TCP_ACK, undefined, 'reject');
  }
  program.place(accept);
  program.add(RETURN, WHOLE_PACKET);
}

/** Compares addresses and ports; a tuple of the other family matches nothing. */
function tuple(
  program: Assembler,
  base: number,
  family: 4 | 6,
  source: SocketAddress,
  destination: SocketAddress,
): void {
  if (source.ip.family !== family || destination.ip.family !== family) {
    program.jump('reject');
    return;
  }
  const address = (at: number, { ip }: SocketAddress): void => {
    const words = family === 4 ? [ip.w3] : [ip.w0, ip.w1, ip.w2, ip.w3];
    words.forEach((word, i) => {
      program.add(LOAD_WORD, base + at + i * 4);
      program.branch(JUMP_EQUAL, word, undefined, 'reject');
    });
  };
  address(family === 4 ? 12 : 8, source);
  address(family === 4 ? 16 : 24, destination);
  loadTransport(program, base, family, 0, 'half');
  program.branch(JUMP_EQUAL, source.port, undefined, 'reject');
  loadTransport(program, base, family, 2, 'half');
  program.branch(JUMP_EQUAL, destination.port, undefined, 'reject');
}

/** Loads from the transport header; for IPv4 the header's length is in X. */
function loadTransport(program: Assembler, base: number, family: 4 | 6, at: number, size: 'byte' | 'half'): void {
  if (family === 4) program.add(size === 'byte' ? LOAD_BYTE_X : LOAD_HALF_X, base + at);
  else program.add(size === 'byte' ? LOAD_BYTE : LOAD_HALF, base + IPV6_TRANSPORT + at);
}

interface Pending {
  readonly at: number;
  readonly field: 'jump' | 'true' | 'false';
  readonly label: string;
}

/** Instructions with forward jumps to labels. Conditional jumps reach 255 instructions; a far one goes over a plain jump. */
class Assembler {
  readonly #code: { code: number; jt: number; jf: number; k: number }[] = [];
  readonly #labels = new Map<string, number>();
  readonly #pending: Pending[] = [];

  add(code: number, k: number): void {
    this.#code.push({ code, jt: 0, jf: 0, k });
  }

  jump(label: string): void {
    this.#pending.push({ at: this.#code.length, field: 'jump', label });
    this.add(JUMP, 0);
  }

  /** A conditional jump to labels; undefined = the next instruction. */
  branch(code: number, k: number, onTrue: string | undefined, onFalse: string | undefined): void {
    const far = (label: string | undefined): boolean => label === 'reject' || label === 'v6';
    if (far(onTrue) || far(onFalse)) {
      // "reject" and "v6" may be out of reach: the conditional jump skips a plain one.
      const target = far(onTrue) ? onTrue! : onFalse!;
      this.#code.push({ code, jt: far(onTrue) ? 0 : 1, jf: far(onTrue) ? 1 : 0, k });
      this.jump(target);
      return;
    }
    if (onTrue !== undefined) this.#pending.push({ at: this.#code.length, field: 'true', label: onTrue });
    if (onFalse !== undefined) this.#pending.push({ at: this.#code.length, field: 'false', label: onFalse });
    this.add(code, k);
  }

  place(label: string): void {
    this.#labels.set(label, this.#code.length);
  }

  finish(): Uint8Array {
    for (const { at, field, label } of this.#pending) {
      const distance = this.#labels.get(label)! - at - 1;
      if (field === 'jump') this.#code[at]!.k = distance;
      else if (field === 'true') this.#code[at]!.jt = distance;
      else this.#code[at]!.jf = distance;
    }
    const out = new Uint8Array(this.#code.length * INSTRUCTION_BYTES);
    const view = new DataView(out.buffer);
    this.#code.forEach(({ code, jt, jf, k }, i) => {
      view.setUint16(i * INSTRUCTION_BYTES, code, true);
      view.setUint8(i * INSTRUCTION_BYTES + 2, jt);
      view.setUint8(i * INSTRUCTION_BYTES + 3, jf);
      view.setUint32(i * INSTRUCTION_BYTES + 4, k, true);
    });
    return out;
  }
}
