-- How an owner's execution ended. KEYS[1] the record; ARGV: owner, the new state, fingerprint, ms to keep the record,
-- and what stands behind the head (src/store/entry.rs).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local head = redis.call('GETRANGE', KEYS[1], 0, 62)
local lease = now
-- A record that is gone was lost by Redis, or never made: whatever the owner says is better than nothing.
if head ~= '' then
  if head:sub(1, 1) ~= '1' or head:sub(3, 18) ~= ARGV[1] then
    return 0
  end
  local state = head:sub(2, 2)
  -- Said before, and the reply got lost.
  if state == ARGV[2] then
    return 1
  end
  if state ~= 'i' then
    return 0
  end
  lease = tonumber(head:sub(51, 63)) or now
end
local keep = tonumber(ARGV[4])
if ARGV[2] == 'u' then
  keep = math.max(keep, lease - now)
end
local value = '1' .. ARGV[2] .. ARGV[1] .. ARGV[3] .. string.format('%013.0f', lease) .. ARGV[5]
local done = redis.pcall('SET', KEYS[1], value, 'PX', keep)
if done.err and ARGV[2] == 'r' then
  -- No memory for the mark that makes a late claim of this owner void.
  redis.call('DEL', KEYS[1])
elseif done.err then
  return done
end
return 1
