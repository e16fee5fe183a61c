-- What is known of an operation, for an operator. KEYS[1] the record; ARGV: up to which byte of it to show.
local value = redis.call('GET', KEYS[1])
if not value then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return {now, redis.call('PTTL', KEYS[1]), #value, value:sub(1, tonumber(ARGV[1]))}
