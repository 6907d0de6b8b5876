/**
 * An interpreter of classic BPF for tests: what the kernel's verifier demands, and what a program returns for a packet. Loads
 * beyond the packet reject it, as in the kernel.
 */

const MEMORY_LIMIT = 4096;

/** @throws Error for a program that the kernel would refuse */
export function runFilter(program: Uint8Array, packet: Uint8Array): number {
  const view = new DataView(program.buffer, program.byteOffset, program.length);
  const count = program.length / 8;
  if (count === 0 || count > MEMORY_LIMIT || program.length % 8 !== 0) throw new Error('bad length');
  for (let i = 0; i < count; i++) checkJumps(view, i, count);
  if ((view.getUint16((count - 1) * 8, true) & 7) !== 6) throw new Error('does not end in a return');
  const bytes = new DataView(packet.buffer, packet.byteOffset, packet.length);
  let a = 0;
  let x = 0;
  for (let i = 0; ; i++) {
    const code = view.getUint16(i * 8, true);
    const k = view.getUint32(i * 8 + 4, true);
    const taken = (yes: boolean): void => {
      i += view.getUint8(i * 8 + (yes ? 2 : 3));
    };
    const load = (at: number, size: number): number | undefined => {
      if (at + size > packet.length) return undefined;
      return size === 1 ? bytes.getUint8(at) : size === 2 ? bytes.getUint16(at) : bytes.getUint32(at);
    };
    let loaded: number | undefined = 0;
    switch (code) {
      case 0x30:
        loaded = load(k, 1);
        break;
      case 0x28:
        loaded = load(k, 2);
        break;
      case 0x20:
        loaded = load(k, 4);
        break;
      case 0x50:
        loaded = load(x + k, 1);
        break;
      case 0x48:
        loaded = load(x + k, 2);
        break;
      case 0xb1: {
        const byte = load(k, 1);
        if (byte === undefined) return 0;
        x = (byte & 15) * 4;
        continue;
      }
      case 0x54:
        a = (a & k) >>> 0;
        continue;
      case 0x05:
        i += k;
        continue;
      case 0x15:
        taken(a === k);
        continue;
      case 0x45:
        taken((a & k) !== 0);
        continue;
      case 0x06:
        return k;
      default:
        throw new Error(`unknown instruction ${code.toString(16)}`);
    }
    if (loaded === undefined) return 0;
    a = loaded;
  }
}

function checkJumps(view: DataView, i: number, count: number): void {
  const code = view.getUint16(i * 8, true);
  if ((code & 7) !== 5) return;
  const targets = code === 5 ? [view.getUint32(i * 8 + 4, true)] : [view.getUint8(i * 8 + 2), view.getUint8(i * 8 + 3)];
  for (const target of targets) if (i + 1 + target >= count) throw new Error(`jump out of the program at ${i}`);
}
