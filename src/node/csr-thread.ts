/** The thread that makes one certificate request (`createCsrAside`). */
import { createCsr } from '../identity/csr.js';
import { answerAside } from '../os/aside.js';
import type { CsrJob } from './csr-aside.js';

await answerAside(({ keyPem, name }: CsrJob) => createCsr(keyPem, name));
