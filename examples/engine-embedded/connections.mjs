/**
 * The sockets of a host, as `Engine` asks for them: node:net and node:dgram.
 *
 *   engine ─ dial, send, end, close, pause, resume ─► here ─► sockets
 *   engine ◄─ connected, failed, received, ended, closed, resumed ─ here
 */
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { SocketAddress } from 'sallyport/engine';

/** What errors of a dial are to the engine; it answers the program accordingly (RST, ICMP, silence). */
const FAILURES = {
  ECONNREFUSED: 'refused',
  ENETUNREACH: 'unreachable-net',
  EHOSTUNREACH: 'unreachable-host',
  ETIMEDOUT: 'timeout',
  EACCES: 'blocked',
  EPERM: 'blocked',
};

/**
 * @param {() => import('sallyport/engine').Engine} engine a function, because the engine is made with these connections
 * @param {(destination: SocketAddress) => SocketAddress} via where a destination really is; the host decides
 */
export function nodeConnections(engine, via = (destination) => destination) {
  const sockets = new Map();

  const dialTcp = (id, destination) => {
    const { ip, port } = via(destination);
    const socket = connect({ host: ip.toString(), port, allowHalfOpen: true });
    let stands = false;
    let broken = false;
    socket.on('connect', () => {
      stands = true;
      engine().connected(id);
    });
    socket.on('data', (bytes) => engine().received(id, bytes));
    socket.on('drain', () => engine().resumed(id));
    socket.on('end', () => engine().ended(id));
    socket.on('error', ({ code }) => {
      broken = true;
      if (!stands) engine().failed(id, FAILURES[code] ?? 'other');
    });
    socket.on('close', () => {
      if (stands) engine().closed(id, broken ? 'error' : 'finished');
    });
    return {
      // Bytes are lent: what is kept is copied.
      send: (bytes) => socket.write(bytes.slice()),
      end: () => socket.end(),
      close: (reason) => (reason === 'finished' ? socket.end() : socket.resetAndDestroy()),
      pause: () => socket.pause(),
      resume: () => socket.resume(),
    };
  };

  /** One socket for everything a port of a program sends, wherever to: each datagram says its own destination. */
  const dialUdp = (id, destination) => {
    const socket = createSocket(via(destination).ip.isV4 ? 'udp4' : 'udp6');
    /** What the program calls those it has sent to. */
    const names = new Map();
    socket.on('message', (bytes, { address, port }) => {
      const text = address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
      engine().received(id, bytes, names.get(text) ?? SocketAddress.parse(text));
    });
    socket.on('error', () => engine().failed(id, 'other'));
    socket.bind(0, () => engine().connected(id));
    return {
      send: (bytes, to) => {
        const there = via(to);
        if (there !== to) names.set(there.toString(), to);
        socket.send(bytes.slice(), there.port, there.ip.toString(), () => {});
        return true;
      },
      end: () => {},
      close: () => socket.close(),
      // A socket of datagrams is not paused: what the engine has no room for it drops and counts.
      pause: () => {},
      resume: () => {},
    };
  };

  return {
    dial: ({ id, protocol, destination }) => {
      sockets.set(id, protocol === 'tcp' ? dialTcp(id, destination) : dialUdp(id, destination));
    },
    send: (id, bytes, to) => sockets.get(id).send(bytes, to),
    end: (id) => sockets.get(id).end(),
    close: (id, reason) => {
      sockets.get(id).close(reason);
      sockets.delete(id);
    },
    pause: (id) => sockets.get(id).pause(),
    resume: (id) => sockets.get(id).resume(),
  };
}
