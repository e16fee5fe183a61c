-- What an operator makes of a record, if it is still the one that was judged (src/record/operator.rs).
-- KEYS[1] the record; ARGV: its owner, the state in which it was judged, the new state, '1' if its owner may be alive,
-- ms to keep a mark at least, and what stands behind the head.
local head = redis.call('GETRANGE', KEYS[1], 0, 62)
if head:sub(1, 1) ~= '1' or head:sub(3, 18) ~= ARGV[1] then
  return 0
end
local state = head:sub(2, 2)
-- Done before, and the reply got lost.
if state == ARGV[3] and redis.call('GETRANGE', KEYS[1], 63, -1) == ARGV[6] then
  return 1
end
if state ~= ARGV[2] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Its owner has come back to life since.
if state == 'i' and ARGV[4] ~= '1' and (tonumber(head:sub(51, 63)) or now) > now then
  return 0
end
local keep = math.max(redis.call('PTTL', KEYS[1]), 1)
if ARGV[3] == 'r' then
  -- The mark fences the owner, however late it comes back.
  keep = math.max(keep, tonumber(ARGV[5]))
end
redis.call('SET', KEYS[1], '1' .. ARGV[3] .. head:sub(3) .. ARGV[6], 'PX', keep)
return 1
