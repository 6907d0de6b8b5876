/** What a trace needs of this machine: the system's name servers, clocks and random numbers around an engine. */
import { SystemClock } from '../os/clock.js';
import { SystemEntropy } from '../os/entropy.js';
import { AddressNames, systemReverse } from './names.js';
import { Networks, systemText } from './networks.js';
import type { TraceEnvironment } from './orchestration.js';
import { fetchOverIpv4, PublicIp } from './public-ip.js';
import { systemLookup } from './resolve.js';
import type { TraceEngine } from './types.js';

export function systemEnvironment(engine: TraceEngine): TraceEnvironment {
  const clock = new SystemClock();
  const entropy = new SystemEntropy();
  return {
    engine,
    lookup: systemLookup,
    names: new AddressNames(systemReverse(), clock),
    networks: new Networks(systemText(), clock),
    publicIp: new PublicIp(fetchOverIpv4, clock, entropy),
    clock,
    entropy,
  };
}
