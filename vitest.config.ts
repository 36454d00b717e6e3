// Tests in TypeScript: one process a file, since an addon's state lives as long as its process.
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/*.test.ts'],
    pool: 'forks',
    // Tests count and compare; how long they may take depends on the machine.
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
})
