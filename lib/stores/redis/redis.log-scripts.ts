/** The scripts of the event log and of the finished steps; the fields are described in `redis.prelude.ts`. */

/** Most bytes and items of one page, whatever is asked for: while a script runs, Redis does nothing else. */
const LARGEST_PAGE_BYTES = 1_048_576;
const LARGEST_PAGE_ITEMS = 5_000;

/**
 * ARGV: channel, message, token, lease, number of the first item, status and headers of the head
 * ('' without one), then the items.
 */
export const APPEND = `
local first_arg = 8
local r = read()
if not held(r, ARGV[3]) then return 'lost' end
local first, head = tonumber(ARGV[5]), ARGV[6] ~= ''
local last = first + #ARGV - first_arg
local tail = streams(r) and r.tail or 0

-- Its reply was lost. The producer has sent nothing since, so the log still ends with it. The lease
-- is set all the same: the producer counts it from the time of the repetition.
if tail > 0 and last == tail then return extend(r, ARGV[4]) end
if first ~= tail + 1 or head ~= (first == 1) then return 'lost' end

local fields = { 'log', generation(r), 'logTail', int(last) }
if head then
  tidy(r)
  for _, field in ipairs({ 'logStatus', ARGV[6], 'logHeaders', ARGV[7] }) do fields[#fields + 1] = field end
end
for seq = first, last do
  fields[#fields + 1] = 'i' .. seq
  fields[#fields + 1] = ARGV[first_arg + seq - first]
  if #fields > 1000 then
    redis.call('HSET', key, unpack(fields))
    fields = {}
  end
end
if #fields > 0 then redis.call('HSET', key, unpack(fields)) end
local said = extend(r, ARGV[4])
tell()
return said
`;

/** ARGV: record id, attempt, cursor, bytes. */
export const READ = `
local r = read()
if not r or r.id ~= ARGV[1] or int(r.attempt) ~= ARGV[2] then return false end
local after, budget = tonumber(ARGV[3]), math.min(tonumber(ARGV[4]), ${LARGEST_PAGE_BYTES})
local v = redis.call('HMGET', key, 'logStatus', 'logHeaders', 'kept', 'status', 'headers', 'reason')
local ended = r.state == 'completed'
local streamed = ended and v[3] == 'stream'

local tail, status, headers = r.tail, v[1], v[2]
if not streams(r) then
  -- A stream that ended without an item has its head in the answer only.
  if not streamed then return false end
  tail, status, headers = 0, v[4], v[5]
end

local items = {}
for seq = after + 1, tail do
  if #items >= ${LARGEST_PAGE_ITEMS} then break end
  local item = redis.call('HGET', key, 'i' .. seq)
  if not item then return redis.error_reply('ERR item ' .. seq .. ' is missing in the event log of a record') end
  budget = budget - #item
  if budget < 0 and #items > 0 then break end
  items[#items + 1] = item
end

local state, stream_end, left = 'interrupted', '', '0'
if r.live then
  state, left = 'live', int(r.lease - now)
elseif ended then
  -- Settled by another answer, a stream has no end of its own.
  state, stream_end = 'ended', streamed and v[6] or ''
end
return { state, stream_end, status, headers, int(tail), left, items }
`;

/** ARGV: token, lease, name, result. */
export const SAVE = `
local r = read()
if not held(r, ARGV[1]) then return 'lost' end
tidy(r)
local field = 's:' .. ARGV[3]
if not redis.call('HGET', key, field) then
  local count = int(r.step_count + 1)
  redis.call('HSET', key, 'steps', r.id, 'stepCount', count, 'n' .. count, ARGV[3], field, ARGV[4])
end
return extend(r, ARGV[2])
`;

/** ARGV: token. */
export const LOAD = `
local r = read()
local found = {}
if not held(r, ARGV[1]) or r.steps ~= r.id then return found end
for n = 1, r.step_count do
  local name = redis.call('HGET', key, 'n' .. n)
  found[#found + 1] = name
  found[#found + 1] = redis.call('HGET', key, 's:' .. name)
end
return found
`;
