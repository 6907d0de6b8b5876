/**
 * Network namespaces of a test's own, and programs in them. Names begin with `ox-` and hold the process id, so that test
 * runs side by side do not meet; everything is removed again by `removeAll`, also after a failure.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';

let counter = 0;

/** Runs `ip` and returns what it prints. */
export function ip(...args: string[]): string {
  return execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** A name for a device or namespace that nobody else has (at most 15 characters). */
export const uniqueName = (): string => `ox-${process.pid % 100_000}-${counter++}`;

export class Namespaces {
  readonly #names: string[] = [];
  readonly #children: ChildProcess[] = [];

  create(): string {
    const name = uniqueName();
    ip('netns', 'add', name);
    this.#names.push(name);
    ip('-n', name, 'link', 'set', 'lo', 'up');
    return name;
  }

  /** Starts a program in a namespace; its output is collected. */
  spawn(namespace: string, command: string, ...args: string[]): Program {
    const child = spawn('ip', ['netns', 'exec', namespace, command, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#children.push(child);
    return new Program(child);
  }

  removeAll(): void {
    for (const child of this.#children.splice(0)) if (child.exitCode === null) child.kill('SIGKILL');
    for (const name of this.#names.splice(0)) ip('netns', 'del', name);
  }
}

export class Program {
  readonly child: ChildProcess;
  stdout = '';
  stderr = '';
  /** The exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals | null>;

  constructor(child: ChildProcess) {
    this.child = child;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.ended = new Promise((resolve) => child.on('close', (code, signal) => resolve(signal ?? code)));
  }

  /** Waits until the output holds `text`; fails when the program ends before. */
  async says(text: string): Promise<void> {
    let over = false;
    void this.ended.then(() => {
      over = true;
    });
    while (!this.stdout.includes(text)) {
      if (over) throw new Error(`ended without saying "${text}": ${this.stdout} ${this.stderr}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** What a program that prints one line of JSON found out. */
  async json(): Promise<unknown> {
    const code = await this.ended;
    if (code !== 0) throw new Error(`ended with ${code}: ${this.stdout} ${this.stderr}`);
    return JSON.parse(this.stdout);
  }
}
