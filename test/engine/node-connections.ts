/** A host's connections by node:net, as a program would make them. */
import { connect as dial, type Socket } from 'node:net';
import type { Engine, HostConnections } from '../../src/index.js';

/** Every TCP connection goes to the loopback, to this port or the one it asks for; datagrams go nowhere. */
export function nodeConnections(engine: () => Engine, port?: number): HostConnections {
  const sockets = new Map<number, Socket>();
  return {
    dial: ({ id, protocol, destination }) => {
      if (protocol === 'udp') return;
      const socket = dial({ host: '127.0.0.1', port: port ?? destination.port, allowHalfOpen: true });
      sockets.set(id, socket);
      socket.on('connect', () => engine().connected(id));
      socket.on('data', (bytes) => engine().received(id, bytes));
      socket.on('drain', () => engine().resumed(id));
      socket.on('end', () => engine().ended(id));
      socket.on('error', () => engine().failed(id, 'refused'));
    },
    // Copied, because what is sent is only lent.
    send: (id, bytes) => sockets.get(id)!.write(bytes.slice()),
    end: (id) => void sockets.get(id)!.end(),
    close: (id) => void sockets.get(id)!.destroy(),
    pause: (id) => void sockets.get(id)!.pause(),
    resume: (id) => void sockets.get(id)!.resume(),
  };
}
