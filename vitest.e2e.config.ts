import { defineConfig } from 'vitest/config';

/** Tests that use real sockets, the kernel, namespaces and the built program: one file at a time. */
export default defineConfig({
  test: {
    include: ['lab', 'e2e', 'privileged', 'packaging'].map((folder) => `test/${folder}/**/*.test.ts`),
    testTimeout: 120_000,
    hookTimeout: 120_000,
    pool: 'forks',
    fileParallelism: false,
  },
});
