/**
 * The TCP/IP stack by itself: `import { Stack } from 'sallyport/netstack'`. Loads without Node: clock, randomness and the one hash it
 * needs are arguments. docs/netstack.md has an example.
 */
export { IpAddress, SocketAddress } from '../base/address.js';
export type { Crypto } from '../base/crypto.js';
export { Drop, type DropReason, dropName } from '../base/drop.js';
export type { Entropy } from '../base/entropy.js';
export { SallyportError } from '../base/error.js';
export { type Duration, type Instant, instantAt, Micros, Millis, Seconds } from '../base/time.js';
export { Arena } from '../wire/arena.js';
export { createStackCounters, type StackCounter, type StackCounters } from './counters.js';
export { DEFAULT_LIMITS, type StackLimits, type StackOptions } from './options.js';
export { Packetizer } from './packetizer.js';
export { Stack } from './stack.js';
export type { TcpConnection } from './tcp/connection.js';
export { DEFAULT_TCP_OPTIONS, type TcpOptions } from './tcp/options.js';
export type { TcpRequest } from './tcp/request.js';
export type { CloseReason, Rejection, StackHandlers, StackSink, TcpHandlers } from './types.js';
