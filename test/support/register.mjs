// node --import ./test/support/register.mjs file.ts: runs TypeScript in a child process of a test.
import { register } from 'node:module';

register('./typescript-hooks.mjs', import.meta.url);
// A fixture does not outlive the test that started it.
if (process.send) process.once('disconnect', () => process.exit(1));
// Listening for that alone must not keep it alive.
process.channel?.unref();
