/**
 * The calls of macOS that a tracer makes, as one object, so that everything above it runs on any system against another one.
 *
 *   a call returns what C returns, or the negated errno of Darwin         memory is Uint8Arrays; `address` is for structures that
 *                                                                         hold pointers, whose targets the caller keeps alive
 */
import koffi from 'koffi';

export interface DarwinSystem {
  open(path: string, flags: number): number;
  close(fd: number): number;
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  /** On a thread of the pool: it may block. */
  readLater(fd: number, into: Uint8Array, done: (result: number) => void): void;
  socket(family: number, type: number, protocol: number): number;
  setsockopt(fd: number, level: number, option: number, value: Uint8Array): number;
  bind(fd: number, address: Uint8Array): number;
  connect(fd: number, address: Uint8Array): number;
  /** On a thread of the pool, on a blocking socket. */
  connectLater(fd: number, address: Uint8Array, done: (result: number) => void): void;
  listen(fd: number, backlog: number): number;
  /** `length`: a socklen_t of four bytes. */
  getsockname(fd: number, address: Uint8Array, length: Uint8Array): number;
  sendto(fd: number, bytes: Uint8Array, length: number, address: Uint8Array): number;
  /** 0: there is no such device. */
  interfaceIndex(name: string): number;
  /** `struct timeval` (16 bytes). */
  gettimeofday(into: Uint8Array): number;
  address(bytes: Uint8Array): number;
}

type Native = (...args: readonly unknown[]) => number;

/** Not run on hardware. @throws Error where there is no libSystem */
export function openDarwinSystem(): DarwinSystem {
  const library = koffi.load('/usr/lib/libSystem.B.dylib');
  const call = (prototype: string): Native => {
    const native = library.func(prototype) as Native;
    return (...args) => {
      const returned = native(...args);
      return returned < 0 ? -koffi.errno() : returned;
    };
  };
  /** errno is the pool thread's and cannot be read here: a failure is told as what the caller knows best. */
  const later = (prototype: string) => {
    const native = library.func(prototype);
    return (args: readonly unknown[], done: (result: number) => void): void => {
      native.async(...args, (_error: unknown, returned: number) => done(Number(returned)));
    };
  };
  const open = call('int open(const char *path, int flags, ...)');
  const ioctl = call('int ioctl(int fd, unsigned long request, ...)');
  const read = later('long read(int fd, void *into, unsigned long size)');
  const connect = later('int connect(int fd, const void *address, uint32_t length)');
  const gettimeofday = call('int gettimeofday(void *time, void *zone)');
  const [setsockopt, bind, connectNow, sendto] = [
    call('int setsockopt(int fd, int level, int option, const void *value, uint32_t length)'),
    call('int bind(int fd, const void *address, uint32_t length)'),
    call('int connect(int fd, const void *address, uint32_t length)'),
    call('long sendto(int fd, const void *bytes, unsigned long size, int flags, const void *address, uint32_t length)'),
  ];
  return {
    open: (path, flags) => open(path, flags),
    close: call('int close(int fd)'),
    ioctl: (fd, request, argument) => ioctl(fd, request, 'void *', argument),
    readLater: (fd, into, done) => read([fd, into, into.length], done),
    socket: call('int socket(int family, int type, int protocol)'),
    setsockopt: (fd, level, option, value) => setsockopt(fd, level, option, value, value.length),
    bind: (fd, address) => bind(fd, address, address.length),
    connect: (fd, address) => connectNow(fd, address, address.length),
    connectLater: (fd, address, done) => connect([fd, address, address.length], done),
    listen: call('int listen(int fd, int backlog)'),
    getsockname: call('int getsockname(int fd, void *address, void *length)'),
    sendto: (fd, bytes, length, address) => sendto(fd, bytes, length, 0, address, address.length),
    interfaceIndex: call('unsigned int if_nametoindex(const char *name)'),
    gettimeofday: (into) => gettimeofday(into, null),
    address: (bytes) => Number(koffi.address(bytes)),
  };
}
