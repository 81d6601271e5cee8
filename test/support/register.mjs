// node --import ./test/support/register.mjs file.ts: runs TypeScript in a child process.
import { register } from 'node:module';
import './ends-with-parent.mjs';

register('./typescript-hooks.mjs', import.meta.url);
