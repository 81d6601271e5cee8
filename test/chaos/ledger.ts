import { closeSync, fdatasync, openSync, writeSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * The world outside, in a process that nothing happens to: takes effects as lines of JSON and answers
 * when they are on the disk. What is in its file has happened; the rest has not.
 */
const file = openSync(process.argv[2]!, 'a');
let waiting: (() => void)[] = [];
let syncing = false;

function sync(): void {
  if (syncing || waiting.length === 0) return;
  // One sync for all that came while the last one was under way.
  const answered = waiting;
  waiting = [];
  syncing = true;
  fdatasync(file, () => {
    syncing = false;
    for (const answer of answered) answer();
    sync();
  });
}

const server = createServer((request, response) => {
  let body = '';
  request.setEncoding('utf8').on('data', (text: string) => (body += text));
  request.on('end', () => {
    writeSync(file, body + '\n');
    waiting.push(() => response.end());
    sync();
  });
});
server.keepAliveTimeout = 600_000;
process.once('disconnect', () => process.exit(1));
process.once('SIGTERM', () => {
  closeSync(file);
  process.exit(0);
});
server.listen(0, '127.0.0.1', () => {
  process.send!({ port: (server.address() as AddressInfo).port });
});
