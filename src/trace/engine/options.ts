/**
 * The limits of a run's options that the engine depends on.
 */
import { traceError } from '../error.js';
import { checkSize } from '../net/socket-transport.js';
import type { TraceOptions } from '../types.js';

/** Probes of one TTL are told apart by 8 bits; some of them are for sizes and flows. */
export const REPEATS_MAX = 100;
/** One reserved port each for TCP; enough for 16 equal-cost interfaces at one TTL with confidence 0.99. */
export const FLOWS_MAX = 512;

/** @throws SallyportError INVALID_REQUEST (caller) */
export function checkOptions(options: TraceOptions): void {
  const { minTtl, maxTtl, repeats, multipath, source, destination, sourcePort, tos, mark, protocol, port } = options;
  const isWithin = (value: number, least: number, most: number): boolean =>
    Number.isInteger(value) && value >= least && value <= most;
  const require = (holds: boolean, text: string): void => {
    if (!holds) throw traceError('INVALID_REQUEST', text);
  };
  require(minTtl >= 1, 'min TTL must be at least 1');
  require(isWithin(minTtl, 1, 255) && isWithin(maxTtl, 1, 255), `invalid TTL: ${minTtl} to ${maxTtl}`);
  require(minTtl <= maxTtl, 'max TTL must be greater than or equal to min TTL');
  require(isWithin(repeats, 1, REPEATS_MAX), `invalid number of probes per hop: ${repeats}`);
  require(protocol === 'icmp' || isWithin(port, 1, 65_535), `invalid port: ${port}`);
  require(sourcePort === undefined || isWithin(sourcePort, 1, 65_535), `invalid source port: ${sourcePort}`);
  require(isWithin(tos, 0, 255), `invalid TOS: ${tos}`);
  require(mark === undefined || isWithin(mark, 0, 0xffff_ffff), `invalid mark: ${mark}`);
  require(options.gapLimit >= 0 && options.rate >= 0, 'gap limit and rate must not be negative');
  require(options.timeout > 0 && options.sendDelay >= 0, 'the timeout must be positive');
  checkSize(options.packetSize);
  require(source === undefined ||
    source.family === destination.family, `the source address ${source} is not of the target's family`);
  if (multipath === undefined) return;
  require(multipath.confidence > 0 && multipath.confidence < 1, `invalid confidence: ${multipath.confidence}`);
  require(isWithin(multipath.maxFlows, 1, FLOWS_MAX), `invalid number of flows: ${multipath.maxFlows}`);
}
