import { defineConfig } from 'vitest/config';

/** Tests that use real sockets, the kernel, namespaces and the built program: two files at a time (each makes namespaces of its own). */
export default defineConfig({
  test: {
    globalSetup: './test/e2e/build.ts',
    include: ['lab', 'e2e', 'privileged', 'packaging'].map((folder) => `test/${folder}/**/*.test.ts`),
    testTimeout: 120_000,
    hookTimeout: 120_000,
    pool: 'forks',
    maxWorkers: 2,
  },
});
