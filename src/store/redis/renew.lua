-- The owner is alive: its lease starts anew. KEYS[1] the record; ARGV: owner, lease in ms, ms to keep the record.
if redis.call('GETRANGE', KEYS[1], 0, 17) ~= '1i' .. ARGV[1] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SETRANGE', KEYS[1], 50, string.format('%013.0f', now + ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
