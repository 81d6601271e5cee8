import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { SentStatements } from '../database/statements.js';
import type { Bench } from './bench.js';

const run = promisify(execFile);

export interface Pgbench {
  readonly connections: number;
  /** Claims with their completions, one by one, prepared. */
  readonly pairsPerSecond: number;
}

/** What the server can do where the client costs next to nothing. Undefined where pgbench is not installed. */
export async function measurePgbench({ database, servers, scale, say }: Bench): Promise<Pgbench[] | undefined> {
  try {
    await run('pgbench', ['--version']);
  } catch {
    say('pgbench is not installed: its figure is left out');
    return undefined;
  }
  const learnt = await database.ask<SentStatements>('statements', { url: servers.postgresUrl });
  const folder = await mkdtemp(join(tmpdir(), 'idempotency-pgbench-'));
  try {
    const script = join(folder, 'pair.sql');
    await writeFile(script, scriptOf(learnt));
    const found: Pgbench[] = [];
    for (const connections of [4, scale.connections]) {
      say(`pgbench over ${connections} connections`);
      const seconds = String(Math.ceil(scale.sliceSeconds * scale.rounds));
      const flags = ['-n', '-M', 'prepared', '-c', String(connections), '-j', '1', '-T', seconds, '-f', script];
      const { stdout } = await run('pgbench', [...flags, servers.postgresUrl]);
      found.push({ connections, pairsPerSecond: Number(/tps = ([\d.]+)/.exec(stdout)?.[1] ?? NaN) });
    }
    return found;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function scriptOf(learnt: SentStatements): string {
  const known = Buffer.from(learnt.recordKey, 'base64url');
  const literal = (value: unknown): string => {
    if (value === null || value === undefined) return 'NULL';
    if (Array.isArray(value)) return `ARRAY[${value.map(literal).join(', ')}]`;
    const bytes = bytesOf(value);
    if (bytes?.equals(known)) return 'sha256(int8send(:id))';
    const elements = bytes && elementsOf(bytes);
    if (elements) return `ARRAY[${elements.map((one) => literal(one && { type: 'Buffer', data: one })).join(', ')}]`;
    if (bytes) return `'\\x${bytes.toString('hex')}'::bytea`;
    if (value === learnt.claimToken) return 'md5(:id::text)::uuid';
    // Colons as their codes: pgbench takes one with a letter behind it for a variable.
    if (typeof value === 'string') return `E'${value.replaceAll("'", "''").replaceAll(':', '\\x3a')}'`;
    return String(value as number | boolean);
  };
  const text = (statement: SentStatements['claim']): string =>
    statement.text.replace(/\$(\d+)/g, (_, number: string) => literal(statement.values[Number(number) - 1]));
  return `\\set id random(1, 9000000000000000000)\n${text(learnt.claim)};\n${text(learnt.complete)};\n`;
}

/** A buffer that has been through IPC. */
function bytesOf(value: unknown): Buffer | undefined {
  const { type, data } = (value ?? {}) as { type?: unknown; data?: Uint8Array | number[] };
  return type === 'Buffer' && data ? Buffer.from(data) : undefined;
}

const BYTEA = 17;

/** The elements of an array of bytes in Postgres's own form; undefined for other bytes. */
function elementsOf(bytes: Buffer): (Buffer | undefined)[] | undefined {
  if (bytes.length < 20 || bytes.readInt32BE(0) !== 1 || bytes.readInt32BE(8) !== BYTEA) return undefined;
  const elements: (Buffer | undefined)[] = [];
  for (let at = 20; at < bytes.length;) {
    const length = bytes.readInt32BE(at);
    elements.push(length < 0 ? undefined : bytes.subarray(at + 4, at + 4 + length));
    at += 4 + Math.max(0, length);
  }
  return elements;
}
