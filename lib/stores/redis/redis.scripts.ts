import { createHash } from 'node:crypto';

/**
 * The Lua that runs inside Redis: one script for each method of the port, so that what decides and
 * what writes is one step for everybody else.
 *
 * A record is one hash. Its fields:
 *
 * ```text
 * state recordId operation fingerprint      what and whose
 * claimToken attempt fence took             the latest claim; `took`: it found the record abandoned
 * createdAt claimedAt leaseUntil doneAt     milliseconds of Redis's clock
 * retention keep expiresAt                  expiresAt is '' while nothing may end the record
 * kept status headers body reason           the answer of a completed record
 * previous                                  the record before this claim, for a release that undoes it
 * top                                       the highest fencing token ever given, also by undone claims
 * undone                                    tokens whose claims were undone, with what was answered
 * ```
 *
 * A hash without `state` is no record: it only remembers `top` and `undone` for a while.
 */

/** How long an undone claim is remembered where there is no record left to hold it. */
const UNDONE_KEPT_MS = 300_000;
/** Bytes of `undone` that are kept: about twenty tokens, the latest ones. */
const UNDONE_KEPT_BYTES = 1_024;

const PRELUDE = `
local key = KEYS[1]
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)

-- Lua would write a number of this size with an exponent.
local function int(n) return string.format('%.0f', n) end

-- The record, or nil: none, or its retention is over.
local function read()
  local v = redis.call('HMGET', key, 'state', 'fingerprint', 'recordId', 'claimToken', 'attempt',
    'leaseUntil', 'expiresAt', 'claimedAt', 'createdAt', 'fence', 'took', 'retention', 'keep')
  if not v[1] then return nil end
  if v[7] ~= '' and tonumber(v[7]) <= now then return nil end
  local r = { state = v[1], fingerprint = v[2], id = v[3], token = v[4], attempt = tonumber(v[5]),
    lease = tonumber(v[6]), claimed = tonumber(v[8]), created = v[9], fence = v[10], took = v[11],
    retention = tonumber(v[12]), keep = v[13], expires = tonumber(v[7]) }
  r.live = r.state == 'in_progress' and r.lease > now
  r.abandoned = r.state == 'abandoned' or (r.state == 'in_progress' and not r.live)
  return r
end

local function held(r, token) return r and r.live and r.token == token end

-- Sets when the record ends, for readers and for Redis. '' is: not by itself.
local function ends(at)
  redis.call('HSET', key, 'expiresAt', at)
  if at == '' then redis.call('PERSIST', key) else redis.call('PEXPIREAT', key, at) end
end

-- An unsettled record outlives its lease: its retention begins where the lease ends.
local function unsettled_end(keep, lease, retention)
  if keep == '1' then return '' end
  return int(lease + retention)
end

-- A user without the right to publish still gets the write; waiters then poll.
local function tell() redis.pcall('PUBLISH', ARGV[1], ARGV[2]) end

local function view(r)
  return { r.abandoned and 'abandoned' or r.state, redis.call('HGETALL', key) }
end

local function undone(token)
  local list = redis.call('HGET', key, 'undone') or ''
  local _, stop = string.find(list, token .. '=', 1, true)
  if not stop then return nil end
  return string.match(list, '^(%a+);', stop + 1)
end

local function write_answer(a, retention)
  redis.call('HSET', key, 'state', 'completed', 'doneAt', int(now), 'kept', ARGV[a],
    'status', ARGV[a + 1], 'reason', ARGV[a + 2], 'headers', ARGV[a + 3], 'body', ARGV[a + 4])
  redis.call('HDEL', key, 'previous')
  ends(int(now + retention))
end
`;

/** ARGV: operation, fingerprint, token, lease, retention, keep, takeOver, id for a new record. */
const CLAIM = `
local token, lease_ms, retention = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

local function win(id, attempt, created, took, previous)
  local rest = redis.call('HMGET', key, 'top', 'undone')
  local fence = int(math.max((tonumber(rest[1] or '0')) + 1, now_us))
  local lease = now + lease_ms
  redis.call('DEL', key)
  redis.call('HSET', key, 'state', 'in_progress', 'recordId', id, 'operation', ARGV[1],
    'fingerprint', ARGV[2], 'claimToken', token, 'attempt', int(attempt), 'fence', fence, 'top', fence,
    'took', took, 'createdAt', created, 'claimedAt', int(now), 'leaseUntil', int(lease),
    'retention', int(retention), 'keep', ARGV[6], 'previous', previous, 'undone', rest[2] or '')
  ends(unsettled_end(ARGV[6], lease, retention))
  return { 'claimed', id, int(attempt), fence, took }
end

local function snapshot()
  local all, fields = redis.call('HGETALL', key), {}
  for i = 1, #all, 2 do
    if all[i] ~= 'previous' and all[i] ~= 'undone' and all[i] ~= 'top' then
      fields[#fields + 1] = all[i]
      fields[#fields + 1] = all[i + 1]
    end
  end
  return cjson.encode(fields)
end

-- A claim that arrives after it was given up (another connection, a slow network) must not win.
if undone(token) then return { 'in_progress', '0', '0' } end

local r = read()
if not r then return win(ARGV[8], 1, int(now), '0', '') end
if held(r, token) then return { 'claimed', r.id, int(r.attempt), r.fence, r.took } end
if r.state == 'released' then
  if r.fingerprint == ARGV[2] then return win(r.id, r.attempt + 1, r.created, '0', snapshot()) end
  return win(ARGV[8], 1, int(now), '0', snapshot())
end
if r.fingerprint ~= ARGV[2] then return { 'reused' } end
if r.state == 'completed' then return { 'completed', view(r), int(r.expires - now) } end
if r.live then return { 'in_progress', int(r.lease - now), int(now - r.claimed) } end
if ARGV[7] == '1' then return win(r.id, r.attempt + 1, r.created, '1', snapshot()) end
return { 'abandoned', view(r) }
`;

/** ARGV: token, lease. */
const RENEW = `
local r = read()
if not held(r, ARGV[1]) then return 'lost' end
local lease = now + tonumber(ARGV[2])
redis.call('HSET', key, 'leaseUntil', int(lease))
ends(unsettled_end(r.keep, lease, r.retention))
return 'written'
`;

/** ARGV: channel, message, token, retention, then the answer. */
const COMPLETE = `
local r = read()
if r and r.state == 'completed' and r.token == ARGV[3] then return 'written' end
if not held(r, ARGV[3]) then return 'lost' end
write_answer(5, tonumber(ARGV[4]))
tell()
return 'written'
`;

/** ARGV: channel, message, token, began. */
const RELEASE = `
local token = ARGV[3]
local r = read()

if ARGV[4] == '1' then
  if r and r.state == 'released' and r.token == token then return 'written' end
  if not held(r, token) then return 'lost' end
  redis.call('HSET', key, 'state', 'released', 'leaseUntil', int(now))
  redis.call('HDEL', key, 'previous')
  ends(int(now + r.retention))
  tell()
  return 'written'
end

local said = undone(token)
if said then return said end

local mine = r and r.state == 'in_progress' and r.token == token
local rest = redis.call('HMGET', key, 'undone', 'top', 'previous')
local record = r ~= nil and not mine
if not record then
  redis.call('DEL', key)
  if rest[2] then redis.call('HSET', key, 'top', rest[2]) end
end
if mine and rest[3] and rest[3] ~= '' then
  local fields = cjson.decode(rest[3])
  redis.call('HSET', key, unpack(fields))
  local at = redis.call('HGET', key, 'expiresAt')
  if at ~= '' and tonumber(at) <= now then
    redis.call('HDEL', key, 'state')
  else
    ends(at)
    record = true
  end
end

said = mine and 'written' or 'lost'
local list = (rest[1] or '') .. token .. '=' .. said .. ';'
while #list > ${UNDONE_KEPT_BYTES} do list = string.gsub(list, '^[^;]*;', '') end
redis.call('HSET', key, 'undone', list)
if not record then redis.call('PEXPIRE', key, ${UNDONE_KEPT_MS}) end
if mine then tell() end
return said
`;

/** ARGV: channel, message, token, began. */
const ABANDON = `
local r = read()
if r and r.state == 'abandoned' and r.token == ARGV[3] then return 'written' end
if not held(r, ARGV[3]) then return 'lost' end
local attempt = r.attempt
if ARGV[4] ~= '1' then attempt = attempt - 1 end
redis.call('HSET', key, 'state', 'abandoned', 'leaseUntil', int(now), 'attempt', int(attempt))
redis.call('HDEL', key, 'previous')
ends(unsettled_end(r.keep, now, r.retention))
tell()
return 'written'
`;

const FIND = `
local r = read()
if not r then return false end
return view(r)
`;

/** ARGV: channel, message, kind, retention, then the answer. The old claim's token goes: it may not write again. */
const RESOLVE = `
local r = read()
if not r or not r.abandoned then return 0 end
local retention = tonumber(ARGV[4])
redis.call('HSET', key, 'claimToken', '')
if ARGV[3] == 'completed' then
  write_answer(5, retention)
else
  redis.call('HSET', key, 'state', 'released')
  redis.call('HDEL', key, 'previous')
  ends(int(now + retention))
end
tell()
return 1
`;

/** ARGV: channel, message. */
const FORGET = `
local r = read()
if not r or r.live then return 0 end
redis.call('DEL', key)
tell()
return 1
`;

/** A script and the name under which Redis keeps it. */
export interface Script {
  readonly source: string;
  readonly sha: string;
}

function script(body: string): Script {
  const source = PRELUDE + body;
  return { source, sha: createHash('sha1').update(source).digest('hex') };
}

export const SCRIPTS = {
  claim: script(CLAIM),
  renew: script(RENEW),
  complete: script(COMPLETE),
  release: script(RELEASE),
  abandon: script(ABANDON),
  find: script(FIND),
  resolve: script(RESOLVE),
  forget: script(FORGET),
} as const;
