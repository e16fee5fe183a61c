-- Idempotency-Key in nginx, as people write it: a shared dictionary, which all workers of one machine see.
--
-- What it does not do: outlive a restart, tell an answer of the service from one that nginx made up, or renew a claim
-- while its request runs. Of the headers it keeps content-type. MD5 is what there is without a further library; who
-- chooses both bodies can make two with one fingerprint.

local LEASE, TTL = 30, 86400 -- seconds
local CLAIMED, DONE = "C", "D"
-- A record: one letter, the request's fingerprint, and when done the status, the content type and the body.
local records = ngx.shared.idempotency

local idempotency = {}

local function refuse(status, detail)
  ngx.status = status
  ngx.header["content-type"] = "application/problem+json"
  ngx.say('{"title":"' .. detail .. '"}')
  return ngx.exit(ngx.HTTP_OK)
end

local function replay(record)
  local status, content_type, body = string.match(record, "^(%d+) ([^\n]*)\n(.*)$", 34)
  ngx.status = tonumber(status)
  ngx.header["content-type"] = content_type
  ngx.header["content-length"] = #body
  ngx.header["idempotency-replayed"] = "true"
  ngx.print(body)
  return ngx.exit(ngx.HTTP_OK)
end

-- A dictionary that is full makes room of at most 30 of its oldest records at a time, however small they are.
local function keep(slot, record)
  for _ = 1, 32 do
    local kept, why = records:set(slot, record, TTL)
    if kept or why ~= "no memory" then
      return kept
    end
  end
end

-- Before the service is asked.
function idempotency.claim()
  local method, key = ngx.req.get_method(), ngx.var.http_idempotency_key
  if not key or (method ~= "POST" and method ~= "PATCH") then
    return
  end

  -- A body beyond client_body_buffer_size would be in a file instead, and is not looked at.
  ngx.req.read_body()
  local fingerprint = ngx.md5(ngx.req.get_body_data() or "")
  local caller = ngx.var.http_authorization or ""
  local slot = table.concat({ caller, ngx.var.host, method, ngx.var.uri, key }, "\n")
  if records:add(slot, CLAIMED .. fingerprint, LEASE) then
    ngx.ctx.claim = { slot = slot, fingerprint = fingerprint, pieces = {} }
    return
  end

  local record = records:get(slot)
  if not record then
    return refuse(503, "no room")
  elseif string.sub(record, 2, 33) ~= fingerprint then
    return refuse(422, "key reused")
  elseif string.sub(record, 1, 1) == CLAIMED then
    return refuse(409, "in flight")
  end
  return replay(record)
end

-- For each piece of the answer.
function idempotency.collect()
  local claim = ngx.ctx.claim
  if not claim then
    return
  end
  table.insert(claim.pieces, ngx.arg[1])
  if ngx.arg[2] and ngx.status < 500 then
    local head = ngx.status .. " " .. (ngx.header["content-type"] or "") .. "\n"
    claim.kept = keep(claim.slot, DONE .. claim.fingerprint .. head .. table.concat(claim.pieces))
  end
end

-- When all is over.
function idempotency.release()
  local claim = ngx.ctx.claim
  if claim and not claim.kept then
    records:delete(claim.slot)
  end
end

return idempotency
