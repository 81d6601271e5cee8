import { serve } from '../server/control.js';
import { runHttp } from './http-load.js';
import type { Round } from './rounds.js';
import { runStreams } from './stream-load.js';

// A process of its own: what it uses of a core is not taken for the server's.
const run = (about: unknown): unknown => {
  const round = about as Round;
  return round.kind === 'http' ? runHttp(round) : runStreams(round);
};

// The bench waits for a port; there is none here.
serve(0, { run }, () => Promise.resolve());
