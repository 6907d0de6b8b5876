import { afterAll, beforeAll, expect, it } from 'vitest';
import { Lab } from '../../lab/lab.js';
import { program } from './tracer-process.js';

let lab: Lab;
beforeAll(() => {
  lab = new Lab();
});
afterAll(() => lab.destroy());

it('filters in the kernel let through what they name, on a device without a link layer', async () => {
  const { stdout } = await lab.host('only').exec(program('capture'));
  expect(JSON.parse(stdout)).toEqual({
    nothing: '',
    none: 'icmp4 icmp6 udp4 udp6 syn4 synAck4 syn6 synAck6',
    icmp: 'icmp4 icmp6',
    udp: 'icmp4 icmp6 udp4 udp6',
    'tcp over IPv4': 'icmp4 icmp6 syn4 synAck4',
    'tcp over IPv6': 'icmp4 icmp6 syn6 synAck6',
    'syn-ack': 'synAck4 synAck6',
    'our port': 'icmp4 icmp6 udp4 udp6 syn4 synAck4 syn6 synAck6',
    'another port': 'icmp4 icmp6',
  });
});
