import { createHash } from 'node:crypto';

/**
 * What all scripts of the store begin with, and how a record lies in Redis.
 *
 * A record is one hash, with its event log and its finished steps in it. One key can neither expire
 * nor be evicted in parts, and while a cluster moves a slot a script on several keys is refused
 * (TRYAGAIN) wherever one of them does not exist. Its fields:
 *
 * ```text
 * state recordId operation fingerprint      what and whose
 * claimToken attempt fence took             the latest claim; `took`: it found the record abandoned
 * createdAt claimedAt leaseUntil doneAt     milliseconds of Redis's clock
 * retention keep expiresAt                  expiresAt is '' while nothing may end the record
 * cancel                                    somebody has asked for the latest claim's run to be cancelled
 * kept status headers body reason           the answer of a completed record
 * previous                                  the record before this claim, for a release that undoes it
 * top                                       the highest fencing token ever given, also by undone claims
 * undone                                    tokens whose claims were undone, with what was answered
 * log logTail logStatus logHeaders          the event log: whose it is (recordId:attempt), its last item, its head
 * i1 i2 …                                   its items
 * steps stepCount                           the finished steps: whose they are (recordId), how many
 * n1 n2 …  s:<name>                         their names in order, and their results
 * ```
 *
 * A hash without `state` is no record: it only remembers `top` and `undone` for a while.
 *
 * A new claim leaves the old log and steps where they are, where nobody sees them (`log` and `steps`
 * name another owner): it may yet be undone, and then they belong to the record again. They go with
 * the first write that says that the new claim's run has begun.
 */
const PRELUDE = `
local key = KEYS[1]
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)

-- Lua would write a number of this size with an exponent.
local function int(n) return string.format('%.0f', n) end

-- The record, or nil: none, or its retention is over. What a hash has besides its record (undone, top,
-- previous) comes along either way: one command reads it all.
local rest = {}
local function read()
  local v = redis.call('HMGET', key, 'state', 'fingerprint', 'recordId', 'claimToken', 'attempt',
    'leaseUntil', 'expiresAt', 'claimedAt', 'createdAt', 'fence', 'took', 'retention', 'keep', 'cancel',
    'log', 'logTail', 'steps', 'stepCount', 'undone', 'top', 'previous')
  rest = { undone = v[19], top = v[20], previous = v[21] }
  if not v[1] then return nil end
  if v[7] ~= '' and tonumber(v[7]) <= now then return nil end
  local r = { state = v[1], fingerprint = v[2], id = v[3], token = v[4], attempt = tonumber(v[5]),
    lease = tonumber(v[6]), claimed = tonumber(v[8]), created = v[9], fence = v[10], took = v[11],
    retention = tonumber(v[12]), keep = v[13], expires = tonumber(v[7]), cancel = v[14],
    log = v[15], tail = tonumber(v[16] or '0'), steps = v[17], step_count = tonumber(v[18] or '0') }
  r.live = r.state == 'in_progress' and r.lease > now
  r.abandoned = r.state == 'abandoned' or (r.state == 'in_progress' and not r.live)
  return r
end

local function held(r, token) return r and r.live and r.token == token end

-- Sets when the record ends, for Redis; the field 'expiresAt' says it to readers. '' is: not by itself.
local function expire(at)
  if at == '' then redis.call('PERSIST', key) else redis.call('PEXPIREAT', key, at) end
end

-- The same for both, where nothing else is written.
local function ends(at)
  redis.call('HSET', key, 'expiresAt', at)
  expire(at)
end

-- A settled claim has nothing to be undone to.
local function forget_previous()
  if rest.previous then redis.call('HDEL', key, 'previous') end
end

-- An unsettled record outlives its lease: its retention begins where the lease ends.
local function unsettled_end(keep, lease, retention)
  if keep == '1' then return '' end
  return int(lease + retention)
end

-- Sets the lease; returns what the writes that do so answer.
local function extend(r, lease_ms)
  local lease = now + tonumber(lease_ms)
  redis.call('HSET', key, 'leaseUntil', int(lease))
  ends(unsettled_end(r.keep, lease, r.retention))
  return r.cancel and 'cancel_requested' or 'written'
end

-- A user without the right to publish still gets the write; waiters then poll.
local function tell() redis.pcall('PUBLISH', ARGV[1], ARGV[2]) end

local function generation(r) return r.id .. ':' .. int(r.attempt) end

-- Whether the log is that of the latest attempt.
local function streams(r) return r.log == generation(r) end

-- Lua can pass no more than some thousands of arguments.
local function remove(fields)
  for i = 1, #fields, 1000 do
    redis.call('HDEL', key, unpack(fields, i, math.min(i + 999, #fields)))
  end
end

local function drop_log(r)
  local fields = { 'log', 'logTail', 'logStatus', 'logHeaders' }
  for seq = 1, r.tail do fields[#fields + 1] = 'i' .. seq end
  remove(fields)
  r.log, r.tail = false, 0
end

local function drop_steps(r)
  local fields = { 'steps', 'stepCount' }
  for n = 1, r.step_count do
    fields[#fields + 1] = 'n' .. n
    fields[#fields + 1] = 's:' .. redis.call('HGET', key, 'n' .. n)
  end
  remove(fields)
  r.steps, r.step_count = false, 0
end

-- The latest claim's run has begun, so what earlier ones left can never be wanted again.
local function tidy(r)
  if r.log and not streams(r) then drop_log(r) end
  if r.steps and r.steps ~= r.id then drop_steps(r) end
end

local function view(r)
  local names = { 'recordId', 'operation', 'fingerprint', 'attempt', 'fence', 'createdAt', 'claimedAt',
    'leaseUntil', 'doneAt', 'expiresAt', 'kept', 'status', 'headers', 'body', 'reason' }
  if streams(r) then
    names[#names + 1] = 'logStatus'
    names[#names + 1] = 'logHeaders'
  end
  local values, fields = redis.call('HMGET', key, unpack(names)), {}
  for i, name in ipairs(names) do
    if values[i] then
      fields[#fields + 1] = name
      fields[#fields + 1] = values[i]
    end
  end
  return { r.abandoned and 'abandoned' or r.state, fields }
end
`;

/** A script and the name under which Redis keeps it. */
export interface Script {
  readonly source: string;
  readonly sha: string;
}

export function script(body: string): Script {
  const source = PRELUDE + body;
  return { source, sha: createHash('sha1').update(source).digest('hex') };
}
