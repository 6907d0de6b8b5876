/** Certificate requests made in a thread that ends with them. */
import { runAside } from '../os/aside.js';

/** What the thread is given. */
export interface CsrJob {
  readonly keyPem: string;
  readonly name: string;
}

/** As `createCsr` of `identity/csr`, in a thread that ends with it: a node needs the library's 5 MB for nothing else. */
export function createCsrAside(keyPem: string, name: string): Promise<string> {
  const job: CsrJob = { keyPem, name };
  return runAside(new URL('./csr-thread.js', import.meta.url), 'csr', job);
}
