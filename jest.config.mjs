import { availableParallelism } from 'node:os';

// Tests run as ES modules (Nest 12 is ESM only; Jest cannot `require` it before Node 24.9), hence
// `node --experimental-vm-modules` in the npm scripts.
export default {
  rootDir: '.',
  testRegex: 'test/.*\\.spec\\.ts$',
  modulePathIgnorePatterns: ['<rootDir>/dist/'],
  testEnvironment: 'node',
  testTimeout: 30_000,
  // Most tests wait for a server or a clock: with a worker for each core, two cores are idle for a third of the time.
  maxWorkers: availableParallelism() + 1,
  // Tests of one file that say `concurrent` do little but wait.
  maxConcurrency: 16,
  testSequencer: '<rootDir>/test/support/longest-first.mjs',
  globalSetup: '<rootDir>/test/support/global-setup.ts',
  globalTeardown: '<rootDir>/test/support/global-teardown.ts',
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      {
        jsc: {
          parser: { syntax: 'typescript', decorators: true },
          transform: { legacyDecorator: true, decoratorMetadata: true },
          target: 'es2022',
          keepClassNames: true,
        },
        module: { type: 'es6' },
        sourceMaps: 'inline',
      },
    ],
  },
  moduleNameMapper: {
    '^nestjs-idempotency$': '<rootDir>/lib/index.ts',
    '^nestjs-idempotency/(typeorm|redis)$': '<rootDir>/lib/stores/$1/index.ts',
    '^nestjs-idempotency/testing$': '<rootDir>/lib/testing/index.ts',
    '^(\\.{1,2}/.*)\\.js$': '$1',
  },
};
