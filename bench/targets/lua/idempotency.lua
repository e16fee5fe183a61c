-- Idempotency-Key in Envoy's Lua filter, as people write it: a table per worker.
--
-- What it does not do: see what other workers have (their tables are their own, so a retry that comes in by another
-- worker executes), outlive a change of the listener, tell an answer of the service from one that Envoy made up, renew a
-- claim while its request runs, or let go of one at once whose client hung up. Of the headers it keeps content-type.

local LEASE, TTL = 30, 86400 -- seconds
-- Most forget this bound, and grow until LuaJIT is out of memory. As much as Idemgate's default.
local MAX_BYTES = 64 * 1024 * 1024

local records, bytes = {}, 0
-- The slots in the order in which they were claimed; [first, last) are taken.
local order, first, last = {}, 1, 1

local function size(record)
  return #record.slot + #record.request + #(record.response or "")
end

local function forget(record)
  if records[record.slot] == record then
    records[record.slot] = nil
    bytes = bytes - size(record)
  end
end

local function evict_oldest()
  while bytes > MAX_BYTES and first < last do
    forget(order[first])
    order[first] = nil
    first = first + 1
  end
end

local function refuse(handle, status, detail)
  handle:respond(
    { [":status"] = status, ["content-type"] = "application/problem+json" },
    '{"title":"' .. detail .. '"}'
  )
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local method, key = headers:get(":method"), headers:get("idempotency-key")
  if not key or (method ~= "POST" and method ~= "PATCH") then
    return
  end

  local caller = headers:get("authorization") or ""
  local slot = table.concat({ caller, headers:get(":authority"), method, headers:get(":path"), key }, "\n")
  -- There is no hash function for bodies here, so the first one is kept and compared whole. While it comes in, other
  -- requests run; from here on, none does.
  local body = handle:body(true)
  local request = body:getBytes(0, body:length())
  local now = os.time()
  local record = records[slot]
  if record and now >= record.ends then
    forget(record)
    record = nil
  end

  if not record then
    record = { slot = slot, request = request, ends = now + LEASE }
    records[slot] = record
    bytes = bytes + size(record)
    order[last] = record
    last = last + 1
    evict_oldest()
    handle:streamInfo():dynamicMetadata():set("envoy.filters.http.lua", "slot", slot)
  elseif record.request ~= request then
    refuse(handle, "422", "key reused")
  elseif not record.response then
    refuse(handle, "409", "in flight")
  else
    handle:respond({
      [":status"] = record.status,
      ["content-type"] = record.content_type,
      ["idempotency-replayed"] = "true",
    }, record.response)
  end
end

function envoy_on_response(handle)
  local metadata = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.lua")
  local record = metadata and records[metadata.slot]
  if not record or record.response then
    return
  end

  local headers = handle:headers()
  local status = headers:get(":status")
  if tonumber(status) >= 500 then
    forget(record)
    return
  end
  local content_type = headers:get("content-type")
  local body = handle:body(true)
  record.status, record.content_type = status, content_type
  record.response = body:getBytes(0, body:length())
  record.ends = os.time() + TTL
  bytes = bytes + #record.response
  evict_oldest()
end
