-- May this owner run the operation? The rules are those of `Record::admit` (src/record/mod.rs).
-- KEYS[1] the record; ARGV: owner, fingerprint, lease in ms, ms to keep the record,
-- '1' if an unknown outcome may be run again, and what stands behind the head (src/store/entry.rs).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local value = redis.call('GET', KEYS[1])
if value then
  local state, owner = value:sub(2, 2), value:sub(3, 18)
  local left = (tonumber(value:sub(51, 63)) or now) - now
  local known = value:sub(1, 1) == '1' and value:sub(51, 63):find('^' .. string.rep('%d', 13) .. '$')
  -- Asked again by the owner whose first reply got lost.
  local mine = state == 'i' and owner == ARGV[1]
  -- Another owner gave it back: there is nothing behind such a mark, as there is behind any record.
  local free = state == 'r' and #value == 63 and owner ~= ARGV[1]
  -- From another owner; a late copy of a claim does not begin anew what its own execution left unknown.
  local retry = ARGV[5] == '1' and left <= 0 and (state == 'i' or state == 'u') and owner ~= ARGV[1]
    and value:sub(19, 50) == ARGV[2]
  if not (known and (mine or free or retry)) then
    return {math.max(left, 0), redis.call('PTTL', KEYS[1]), value}
  end
end
local head = '1i' .. ARGV[1] .. ARGV[2] .. string.format('%013.0f', now + ARGV[3])
redis.call('SET', KEYS[1], head .. ARGV[6], 'PX', ARGV[4])
return 1
