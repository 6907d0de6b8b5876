/** The same topology without a tunnel: what the machine itself can carry. */
import { ADDRESSES } from '../../test/lab/topology.js';
import type { Subject } from '../subject.js';

export const none: Subject = {
  name: 'none',
  prepare: async () => 'no tunnel',
  start: async () => ({ target: ADDRESSES.service.v4, processes: {}, stop: async () => undefined }),
};
