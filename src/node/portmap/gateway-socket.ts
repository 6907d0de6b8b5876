/**
 * Questions to the gateway over UDP: sent to it alone, answered by it alone (address and port are checked), each sent again at growing
 * intervals until the answer is there or the last interval is over.
 */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { IpAddress } from '../../base/address.js';
import { type Duration, Millis, toMillis } from '../../base/time.js';

/** RFC 6886 §3.1 doubles from 250 ms; four sends are enough of a neighbour. */
const INTERVALS: readonly Duration[] = [Millis(250), Millis(250), Millis(500), Millis(1000)];

/** The router that this machine's default route goes to. */
export interface Gateway {
  readonly address: IpAddress;
  /** This machine's address towards it. */
  readonly own: IpAddress;
  /** What ends the questions under way, without an answer. */
  readonly pending: Set<() => void>;
}

/** Ends the questions that are under way; later ones are asked as ever. */
export function giveUpAsking(gateway: Gateway): void {
  for (const end of [...gateway.pending]) end();
}

/** Undefined where this machine has no address towards it. */
export async function gatewayAt(address: IpAddress): Promise<Gateway | undefined> {
  const socket = createSocket('udp4');
  try {
    // Connecting sends nothing: it asks the routing table.
    socket.connect(9, address.toString());
    await once(socket, 'connect');
    return { address, own: IpAddress.parse(socket.address().address)!, pending: new Set() };
  } catch {
    return undefined;
  } finally {
    socket.close();
  }
}

/**
 * @param judge makes something of an answer, or lets it pass as none of ours.
 * @returns undefined when no answer has come.
 */
export function askGateway<T>(
  { address, own, pending }: Gateway,
  port: number,
  request: Uint8Array,
  judge: (answer: Uint8Array) => T | undefined,
  intervals = INTERVALS,
): Promise<T | undefined> {
  const socket = createSocket('udp4');
  return new Promise<T | undefined>((resolve) => {
    let timer: NodeJS.Timeout | undefined;
    let sent = 0;
    const finish = (result: T | undefined): void => {
      clearTimeout(timer);
      pending.delete(giveUp);
      socket.removeAllListeners('message');
      close(socket);
      resolve(result);
    };
    const giveUp = (): void => finish(undefined);
    pending.add(giveUp);
    const send = (): void => {
      const interval = intervals[sent++];
      if (interval === undefined) {
        finish(undefined);
        return;
      }
      socket.send(request, port, address.toString(), () => undefined);
      timer = setTimeout(send, toMillis(interval));
    };
    socket.on('error', giveUp);
    socket.on('message', (answer, from) => {
      if (from.port !== port || from.address !== address.toString()) return;
      const result = judge(answer);
      if (result !== undefined) finish(result);
    });
    socket.bind(0, own.toString(), send);
  });
}

function close(socket: Socket): void {
  try {
    socket.close();
  } catch {
    // It failed to open.
  }
}
