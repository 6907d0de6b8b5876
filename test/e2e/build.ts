/** Before the tests that run the program: makes it anew of the sources, so that none of them runs an older one. */
import { execFileSync } from 'node:child_process';
import { REPOSITORY } from '../lab/services.js';

export default function build(): void {
  execFileSync('npm', ['run', '--silent', 'build'], { cwd: REPOSITORY, stdio: 'inherit' });
}
