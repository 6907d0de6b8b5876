/** What an acceptance suite is: named cases that pass or fail, each with figures, and the table that docs/acceptance.md shows. */
import { describeError } from '../../src/base/error.js';
import type { Network } from '../../test/e2e/network.js';

export interface Case {
  readonly name: string;
  /** What the peers' own tests say of this case; empty: they have none. */
  readonly peers: string;
  /** Resolves with what was measured; rejects when it fails. */
  readonly run: (hold: Hold) => Promise<string>;
}

/** Keeps a network to be destroyed, and described when the case fails. */
export type Hold = (network: Network) => Network;

export interface Suite {
  readonly name: string;
  /** Heading of the column of figures. */
  readonly figures: string;
  readonly cases: readonly Case[];
}

export interface CaseResult {
  readonly name: string;
  readonly passed: boolean;
  readonly figures: string;
  readonly peers: string;
}

/** Runs the cases whose name holds `only`, one after the other. */
export async function runSuite(suite: Suite, only: string, say: (line: string) => void): Promise<CaseResult[]> {
  const results: CaseResult[] = [];
  for (const one of suite.cases.filter(({ name }) => name.includes(only))) {
    const result = await runCase(one, say);
    say(`${suite.name} ${one.name}: ${result.passed ? 'passed' : 'FAILED'}: ${result.figures}`);
    results.push(result);
  }
  return results;
}

async function runCase({ name, peers, run }: Case, say: (line: string) => void): Promise<CaseResult> {
  const networks: Network[] = [];
  try {
    const figures = await run((network) => {
      networks.push(network);
      return network;
    });
    return { name, passed: true, figures, peers };
  } catch (error) {
    say(describeError(error));
    for (const network of networks) say(network.roles.map((role) => role.describe()).join('\n'));
    return { name, passed: false, figures: describeError(error).split('\n')[0]!.slice(0, 200), peers };
  } finally {
    for (const network of networks) await network.destroy();
  }
}

export function suiteMarkdown(suite: Suite, results: readonly CaseResult[]): string {
  const hasPeers = results.some(({ peers }) => peers !== '');
  const passed = results.filter((result) => result.passed).length;
  const cells = (result: CaseResult): string[] => [
    result.name,
    result.passed ? 'passes' : '**fails**',
    result.figures.replaceAll('|', '\\|'),
    ...(hasPeers ? [result.peers] : []),
  ];
  const heads = [suite.name, '', suite.figures, ...(hasPeers ? ['iroh 1.0.3'] : [])];
  return [
    `| ${heads.join(' | ')} |`,
    `|${heads.map(() => '---').join('|')}|`,
    ...results.map((result) => `| ${cells(result).join(' | ')} |`),
    '',
    `${passed} of ${results.length} pass.`,
  ].join('\n');
}
