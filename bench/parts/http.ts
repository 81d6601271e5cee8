import type { Adapter } from '../server/settings.js';
import type { Bench } from './bench.js';
import { measureLatency, type Latency } from './latency.js';
import { measureStreams, type StreamFigures } from './streams.js';
import { SessionRun, throughputOf, type Slices, type Throughput } from './throughput.js';
import { Session } from './variants.js';

export interface HttpFigures {
  readonly throughput: Throughput;
  readonly latency: Latency;
  readonly streams: StreamFigures;
}

/** Everything that is measured on running servers, session by session; the last one also for latency and streams. */
export async function measureHttp(bench: Bench, adapter: Adapter): Promise<HttpFigures> {
  const { sessions } = bench.scale;
  const slices: Slices = new Map();
  for (let n = 1; ; n += 1) {
    bench.say(`${adapter}: session ${n} of ${sessions}`);
    const session = await Session.start(adapter, bench.servers);
    try {
      await new SessionRun(bench, session, `${adapter}-${n}`).addTo(slices);
      if (n < sessions) continue;
      const latency = await measureLatency(bench, adapter, session);
      const streams = await measureStreams(bench, adapter, session);
      return { throughput: throughputOf(adapter, slices), latency, streams };
    } finally {
      await session.stop();
    }
  }
}
