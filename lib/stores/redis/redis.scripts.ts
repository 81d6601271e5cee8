import { script } from './redis.prelude.js';
import { APPEND, LOAD, READ, SAVE } from './redis.log-scripts.js';

/**
 * The Lua that runs inside Redis: one script for each method of the port, so that what decides and
 * what writes is one step for everybody else.
 */

/** How long an undone claim is remembered where there is no record left to hold it. */
const UNDONE_KEPT_MS = 300_000;
/** Bytes of `undone` that are kept: about twenty tokens, the latest ones. */
const UNDONE_KEPT_BYTES = 1_024;

const UNDONE = `
-- What the undoing of this claim was answered with; read() comes first.
local function undone(token)
  local list = rest.undone or ''
  local _, stop = string.find(list, token .. '=', 1, true)
  if not stop then return nil end
  return string.match(list, '^(%a+);', stop + 1)
end
`;

const WRITE_ANSWER = `
local function write_answer(a, retention)
  local at = int(now + retention)
  redis.call('HSET', key, 'state', 'completed', 'doneAt', int(now), 'expiresAt', at, 'kept', ARGV[a],
    'status', ARGV[a + 1], 'reason', ARGV[a + 2], 'headers', ARGV[a + 3], 'body', ARGV[a + 4])
  forget_previous()
  expire(at)
end
`;

/** ARGV: operation, fingerprint, token, lease, retention, keep, takeOver ('0', '1', 'unless_kept'), id for a new record. */
const CLAIM = `${UNDONE}
local token, lease_ms, retention = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

local function win(r, id, attempt, created, took, previous)
  local fence = int(math.max((tonumber(rest.top or '0')) + 1, now_us))
  local lease = now + lease_ms
  local at = unsettled_end(ARGV[6], lease, retention)
  -- Every hash of ours has one of the two. None: the HSET comes first, and is refused where memory is out.
  local left = rest.top or rest.undone
  if not r and left then redis.call('DEL', key) end
  local fields = { 'state', 'in_progress', 'recordId', id, 'operation', ARGV[1], 'fingerprint', ARGV[2],
    'claimToken', token, 'attempt', int(attempt), 'fence', fence, 'top', fence, 'took', took,
    'createdAt', created, 'claimedAt', int(now), 'leaseUntil', int(lease), 'expiresAt', at,
    'retention', int(retention), 'keep', ARGV[6] }
  if left then
    for _, field in ipairs({ 'previous', previous, 'undone', rest.undone or '' }) do fields[#fields + 1] = field end
  end
  redis.call('HSET', key, unpack(fields))
  if r and r.cancel then redis.call('HDEL', key, 'cancel') end
  -- A new hash lives on by itself.
  if r or at ~= '' then expire(at) end
  return { 'claimed', id, int(attempt), fence, took }
end

-- What a claim overwrites. The log and the steps stay where they are.
local function snapshot()
  local names = { 'state', 'recordId', 'operation', 'fingerprint', 'claimToken', 'attempt', 'fence', 'took',
    'createdAt', 'claimedAt', 'leaseUntil', 'retention', 'keep', 'expiresAt' }
  local values, fields = redis.call('HMGET', key, unpack(names)), {}
  for i, name in ipairs(names) do
    fields[#fields + 1] = name
    fields[#fields + 1] = values[i]
  end
  return cjson.encode(fields)
end

local r = read()
-- A claim that arrives after it was given up (another connection, a slow network) must not win.
if undone(token) then return { 'in_progress', '0', '0', '', '0' } end

if not r then return win(nil, ARGV[8], 1, int(now), '0', '') end
if held(r, token) then return { 'claimed', r.id, int(r.attempt), r.fence, r.took } end
if r.state == 'released' then
  if r.fingerprint == ARGV[2] then return win(r, r.id, r.attempt + 1, r.created, '0', snapshot()) end
  return win(r, ARGV[8], 1, int(now), '0', snapshot())
end
if r.fingerprint ~= ARGV[2] then return { 'reused' } end
if r.state == 'completed' then return { 'completed', view(r), int(r.expires - now) } end
if r.live then
  return { 'in_progress', int(r.lease - now), int(now - r.claimed), streams(r) and r.id or '', int(r.attempt) }
end
if ARGV[7] == '1' or (ARGV[7] == 'unless_kept' and r.keep ~= '1') then
  return win(r, r.id, r.attempt + 1, r.created, '1', snapshot())
end
return { 'abandoned', view(r) }
`;

/** ARGV: token, lease. */
const RENEW = `
local r = read()
if not held(r, ARGV[1]) then return 'lost' end
return extend(r, ARGV[2])
`;

/** ARGV: channel, message, token, retention, then the answer. */
const COMPLETE = `${WRITE_ANSWER}
local r = read()
if r and r.state == 'completed' and r.token == ARGV[3] then return 'written' end
if not held(r, ARGV[3]) then return 'lost' end
write_answer(5, tonumber(ARGV[4]))
tidy(r)
tell()
return 'written'
`;

/** ARGV: channel, message, token, began. */
const RELEASE = `${UNDONE}
local token = ARGV[3]
local r = read()

if ARGV[4] == '1' then
  if r and r.state == 'released' and r.token == token then return 'written' end
  if not held(r, token) then return 'lost' end
  redis.call('HSET', key, 'state', 'released', 'leaseUntil', int(now))
  forget_previous()
  tidy(r)
  ends(int(now + r.retention))
  tell()
  return 'written'
end

local said = undone(token)
if said then return said end

local mine = r and r.state == 'in_progress' and r.token == token
local record = r ~= nil and not mine
if mine and rest.previous and rest.previous ~= '' then
  -- The attempt's number will be another claim's, which must not find a log under it.
  if streams(r) then drop_log(r) end
  redis.call('HSET', key, unpack(cjson.decode(rest.previous)))
  redis.call('HDEL', key, 'previous', 'cancel')
  local at = redis.call('HGET', key, 'expiresAt')
  if at == '' or tonumber(at) > now then
    ends(at)
    record = true
  end
elseif mine and (r.attempt > 1 or r.took == '1') then
  -- Itself put back when a later claim was undone: what it was before that is known from its own claim.
  if streams(r) then drop_log(r) end
  local abandoned = r.took == '1'
  redis.call('HSET', key, 'state', abandoned and 'abandoned' or 'released', 'claimToken', '', 'took', '0',
    'attempt', int(r.attempt - 1), 'leaseUntil', int(math.min(r.lease, now)))
  ends(abandoned and unsettled_end(r.keep, math.min(r.lease, now), r.retention) or int(now + r.retention))
  record = true
end
if not record then
  redis.call('DEL', key)
  if rest.top then redis.call('HSET', key, 'top', rest.top) end
end

said = mine and 'written' or 'lost'
local list = (rest.undone or '') .. token .. '=' .. said .. ';'
while #list > ${UNDONE_KEPT_BYTES} do list = string.gsub(list, '^[^;]*;', '') end
redis.call('HSET', key, 'undone', list)
if not record then redis.call('PEXPIRE', key, ${UNDONE_KEPT_MS}) end
if mine then tell() end
return said
`;

/** ARGV: channel, message, token, began, keep. */
const ABANDON = `
local r = read()
if r and r.state == 'abandoned' and r.token == ARGV[3] then return 'written' end
if not held(r, ARGV[3]) then return 'lost' end
local attempt = r.attempt
if ARGV[4] == '1' then
  tidy(r)
else
  -- As in a release that undoes: the attempt's number will be another claim's.
  if streams(r) then drop_log(r) end
  attempt = attempt - 1
end
local keep = ARGV[5] == '1' and '1' or r.keep
redis.call('HSET', key, 'state', 'abandoned', 'leaseUntil', int(now), 'attempt', int(attempt), 'keep', keep)
forget_previous()
ends(unsettled_end(keep, now, r.retention))
tell()
return 'written'
`;

const FIND = `
local r = read()
if not r then return false end
return view(r)
`;

/** ARGV: channel, message, kind, retention, then the answer. The old claim's token goes: it may not write again. */
const RESOLVE = `${WRITE_ANSWER}
local r = read()
if not r or not r.abandoned then return 0 end
local retention = tonumber(ARGV[4])
redis.call('HSET', key, 'claimToken', '')
tidy(r)
if ARGV[3] == 'completed' then
  write_answer(5, retention)
else
  redis.call('HSET', key, 'state', 'released')
  forget_previous()
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

const CANCEL = `
local r = read()
if not r or not r.live then return 0 end
redis.call('HSET', key, 'cancel', '1')
return 1
`;

export const SCRIPTS = {
  claim: script(CLAIM),
  renew: script(RENEW),
  complete: script(COMPLETE),
  release: script(RELEASE),
  abandon: script(ABANDON),
  find: script(FIND),
  resolve: script(RESOLVE),
  forget: script(FORGET),
  requestCancel: script(CANCEL),
  append: script(APPEND),
  read: script(READ),
  save: script(SAVE),
  load: script(LOAD),
} as const;
