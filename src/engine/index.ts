/**
 * The engine by itself: `import { Engine } from 'sallyport/engine'`. Loads without Node: device, sockets, clock, randomness and
 * cryptography are the host's (docs/engine.md). In a Node program `nodePlatform` and `nodeTls` of 'sallyport' supply the last three.
 */
export { IpAddress, SocketAddress } from '../base/address.js';
export type { Crypto } from '../base/crypto.js';
export type { Entropy } from '../base/entropy.js';
export { SallyportError } from '../base/error.js';
export { type Duration, type Instant, Micros, Millis, Seconds, type WallTime, wallAt } from '../base/time.js';
export type { ByteStream, ByteStreamHandlers, HttpRequests, HttpResponse, TlsClient } from '../os/io.js';
export type { EngineDevice, EngineOptions, EnginePlatform } from './engine.js';
export { Engine } from './engine.js';
export type { FlowInfo } from './flow-list.js';
export type { Hold, PayloadTap } from './flow-options.js';
export type { EngineHooks, FlowDecision, FlowHello, FlowMetadata, FlowRequest } from './hooks.js';
export type { DialFailure, DialRequest, HostConnections } from './host/connections.js';
export type { EngineDns, ResolverAnswer } from './host/traffic-options.js';
export type { EngineLog, EngineLogLevel, LogFields } from './log-sink.js';
export type { EngineSnapshot } from './metrics.js';
export type { EngineOverrides, PresetName } from './settings.js';
export type { FlowShape } from './shaping/rate.js';
export { Capture, type CaptureFiles, type CaptureOptions } from './taps/capture.js';
export type { FlowEvent } from './taps/events.js';
