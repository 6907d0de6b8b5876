/**
 * Puts the published results into docs/benchmarks.md, between the lines
 *
 *   <!-- results: NAME -->  …  <!-- end -->        NAME: clean, lossy (published.json), loopback, soak, heap, tun2socks, netstack and engine (their own),
 *                                                idle (relay-idle.json)
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SallyportError } from '../src/base/error.js';
import { REPOSITORY } from '../test/lab/services.js';
import type { FiguresReport } from './figures.js';
import type { HeapReport } from './heap-report.js';
import { cleanMarkdown, figuresMarkdown, heapMarkdown, lossyMarkdown, soakMarkdown } from './markdown.js';
import type { Report } from './report.js';
import type { SoakReport } from './soak/report.js';
import { type Tun2socksReport, tun2socksMarkdown } from './tun2socks-report.js';

export const PAGE = join(REPOSITORY, 'docs', 'benchmarks.md');

/** The page with the tables of the published results in it. Throws BENCH_DOCS for a place without results. */
export function withResults(page: string): string {
  return page.replace(
    /(<!-- results: (\w+) -->\n)[\s\S]*?(<!-- end -->)/g,
    (_all, begin: string, name: string, end: string) => {
      return `${begin}\n${tables(name)}\n\n${end}`;
    },
  );
}

function tables(name: string): string {
  switch (name) {
    case 'clean':
      return cleanMarkdown(read('published') as Report);
    case 'lossy':
      return lossyMarkdown(read('published') as Report);
    case 'loopback':
      return figuresMarkdown(read('loopback') as FiguresReport);
    case 'netstack':
    case 'engine':
      return figuresMarkdown(read(name) as FiguresReport);
    case 'tun2socks':
      return tun2socksMarkdown(read('tun2socks') as Tun2socksReport);
    case 'idle':
      return figuresMarkdown(read('relay-idle') as FiguresReport);
    case 'heap':
      return heapMarkdown(read('heap') as HeapReport);
    case 'soak':
      return soakMarkdown(read('soak') as SoakReport);
    default:
      throw new SallyportError('caller', 'BENCH_DOCS', `no results are called ${name}`);
  }
}

function read(name: string): unknown {
  return JSON.parse(readFileSync(join(REPOSITORY, 'bench', 'results', `${name}.json`), 'utf8'));
}
